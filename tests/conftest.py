"""What holds for every test; says at the start of a run what the machine lacks."""

from hypothesis import HealthCheck, settings

from tests.machine import missing_programs

# How long an example takes shows how busy the machine is, and no defect.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_report_header() -> str | None:
    packages = missing_programs()
    if not packages:
        return None
    install = f"apt-get install {' '.join(packages.values())}"
    return f"missing: {', '.join(packages)}; tests that need them can't run. On Debian: {install}"
