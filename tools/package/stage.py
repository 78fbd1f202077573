"""Put what the zip holds into a folder: the locked wheels for the target, and our own packages.

The folder is the site-packages of an empty virtual environment, so that the SBOM tool reads it as one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tools.package.target import Target

ROOT = Path(__file__).parent.parent.parent
LOCK = ROOT / "requirements.txt"
# Written by pip about the machine that builds, not about what was built: paths, shebangs and their hashes.
ABOUT_THE_BUILD = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def stage(target: Target, environment: Path) -> Path:
    """Fill the new virtual environment at `environment` for `target`; return its site-packages."""
    shutil.rmtree(environment, ignore_errors=True)
    _run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    site_packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    _install_lock(target, site_packages)
    _install_ourselves(environment.parent / "wheels", site_packages)
    _remove_what_does_not_run(site_packages)
    return site_packages


def compile_bytecode(python: str, site_packages: Path) -> None:
    """Compile every module with the target's Python, so that no cold start has to.

    Lambda can't keep what it compiles: without this each cold start would spend seconds on pandas and boto3. The
    compiled files carry no time and no path of this machine.
    """
    # Hashes unchecked: the zip is immutable. -s and -p name the path that tracebacks in Lambda show.
    options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", str(site_packages), "-p", "/var/task"]
    _run(python, "-m", "compileall", *options, str(site_packages))


def python_of(target: Target) -> str | None:
    """Return the path of the target's Python on this machine, or None where it has none."""
    if sys.version_info[:2] == tuple(int(part) for part in target.python_version.split(".")):
        return sys.executable
    found = shutil.which(target.runtime)
    if found is None:
        return None
    # A version manager's shim is on the path for Pythons that it would not run.
    runs = subprocess.run([found, "--version"], check=False, capture_output=True).returncode == 0
    return found if runs else None


def write_sbom(environment: Path, path: Path) -> None:
    """Write the CycloneDX SBOM (JSON) of the staged packages: versions, licences, who needs whom."""
    options = [
        "--pyproject",
        str(ROOT / "pyproject.toml"),
        "--output-reproducible",
        "--output-file",
        str(path),
    ]
    _run(sys.executable, "-m", "cyclonedx_py", "environment", *options, str(environment))


def _install_lock(target: Target, site_packages: Path) -> None:
    platforms = [option for tag in target.platforms for option in ("--platform", tag)]
    python = ["--implementation", "cp", "--python-version", target.python_version]
    wheels_only = ["--only-binary", ":all:", "--require-hashes", "--requirement", str(LOCK)]
    _install(site_packages, *platforms, *python, *wheels_only)


def _install_ourselves(wheels: Path, site_packages: Path) -> None:
    shutil.rmtree(wheels, ignore_errors=True)
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # setuptools would pack modules that are gone
    _run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT))
    _install(site_packages, "--no-index", "--find-links", str(wheels), "auto-defender")


def _install(site_packages: Path, *what: str) -> None:
    _run(*PIP, "install", "--no-deps", "--no-compile", "--target", str(site_packages), *what)
    shutil.rmtree(site_packages / "bin", ignore_errors=True)  # scripts for this machine's Python


def _remove_what_does_not_run(site_packages: Path) -> None:
    for tests in [folder for folder in site_packages.rglob("tests") if folder.is_dir()]:
        shutil.rmtree(tests, ignore_errors=True)
    for name in ABOUT_THE_BUILD:
        for file in site_packages.glob(f"*.dist-info/{name}"):
            file.unlink()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
