"""Build dist/auto-defender-RUNTIME-ARCH.zip and its SBOM; print its digest and size, or say why it can't run.

python -m tools.package --runtime python3.11 --arch x86_64
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.package import archive, stage
from tools.package.shared_objects import unloadable
from tools.package.target import GLIBC, MACHINES, Target
from tools.package.trial import CannotImport, can_try, try_import

MEGABYTE = 1024 * 1024


def main() -> int:
    """Build what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="tools.package", description=__doc__)
    parser.add_argument(
        "--runtime", choices=GLIBC, default="python3.11", help="the Lambda function's runtime"
    )
    parser.add_argument(
        "--arch", choices=MACHINES, default="x86_64", help="the Lambda function's architecture"
    )
    options = parser.parse_args()
    target = Target(options.runtime, options.arch)
    python = stage.python_of(target)
    path = build(target, python)
    print(f"{path}: {describe(path)}")
    problems = what_is_wrong(path, target, archive.UNZIPPED_LIMIT_BYTES) + trial_problems(
        path, target, python
    )
    for problem in problems:
        print(f"{path}: {problem}", file=sys.stderr)
    return 1 if problems else 0


def build(target: Target, python: str | None) -> Path:
    """Build the zip and the SBOM beside it, compiled by `python` if there is one; return the zip's path."""
    name = f"auto-defender-{target.runtime}-{target.architecture}"
    environment = stage.ROOT / "build" / name
    site_packages = stage.stage(target, environment)
    if python is None:
        print(
            f"no {target.runtime} here to compile with: each cold start will take seconds longer",
            file=sys.stderr,
        )
    else:
        stage.compile_bytecode(python, site_packages)
    path = Path("dist", f"{name}.zip")
    path.parent.mkdir(exist_ok=True)
    archive.write_zip(site_packages, path)
    stage.write_sbom(environment, path.with_suffix(".cdx.json"))
    return path


def what_is_wrong(path: Path, target: Target, limit_bytes: int) -> list[str]:
    """Return one line for each reason why Lambda could not load the zip; none: it can."""
    size = archive.unzipped_bytes(path)
    too_large = [f"{size} bytes unzipped; Lambda takes {limit_bytes}"] if size > limit_bytes else []
    return too_large + unloadable(path, target)


def trial_problems(path: Path, target: Target, python: str | None) -> list[str]:
    """Import the handler from the zip where this machine can, and print how long it took; return what failed."""
    if python is None or not can_try(target):
        print(f"not imported: this machine has no {target.runtime} on {target.architecture}")
        return []
    try:
        seconds = try_import(path, python)
    except CannotImport as failure:
        return [str(failure)]
    print(f"the handler imports in {seconds:.2f} s of CPU time")
    return []


def describe(path: Path) -> str:
    """Return the zip's digest and its sizes, for people."""
    unzipped = archive.unzipped_bytes(path) / MEGABYTE
    return (
        f"sha256 {archive.sha256(path)}, {path.stat().st_size / MEGABYTE:.1f} MB, {unzipped:.1f} MB unzipped"
    )


if __name__ == "__main__":
    sys.exit(main())
