"""Says at the start of a run what the machine lacks."""

from tests.machine import missing_programs


def pytest_report_header() -> str | None:
    packages = missing_programs()
    if not packages:
        return None
    install = f"apt-get install {' '.join(packages.values())}"
    return f"missing: {', '.join(packages)}; tests that need them can't run. On Debian: {install}"
