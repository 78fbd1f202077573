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
    zip_path, has_bytecode = build(Target(options.runtime, options.arch))
    if not has_bytecode:
        print(
            f"no {options.runtime} here to compile with: each cold start will take seconds longer",
            file=sys.stderr,
        )
    problems = what_is_wrong(zip_path, Target(options.runtime, options.arch), archive.UNZIPPED_LIMIT_BYTES)
    print(f"{zip_path}: {describe(zip_path)}")
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


def build(target: Target) -> tuple[Path, bool]:
    """Build the zip and the SBOM beside it; return the zip's path, and whether it holds compiled modules."""
    name = f"auto-defender-{target.runtime}-{target.architecture}"
    environment = stage.ROOT / "build" / name
    site_packages = stage.stage(target, environment)
    has_bytecode = stage.compile_bytecode(target, site_packages)
    path = Path("dist", f"{name}.zip")
    path.parent.mkdir(exist_ok=True)
    archive.write_zip(site_packages, path)
    stage.write_sbom(environment, path.with_suffix(".cdx.json"))
    return path, has_bytecode


def what_is_wrong(path: Path, target: Target, limit_bytes: int) -> list[str]:
    """Return one line for each reason why Lambda could not run the zip; none: it can."""
    size = archive.unzipped_bytes(path)
    too_large = [f"{size} bytes unzipped; Lambda takes {limit_bytes}"] if size > limit_bytes else []
    return too_large + unloadable(path, target)


def describe(path: Path) -> str:
    """Return the zip's digest and its sizes, for people."""
    unzipped = archive.unzipped_bytes(path) / MEGABYTE
    return (
        f"sha256 {archive.sha256(path)}, {path.stat().st_size / MEGABYTE:.1f} MB, {unzipped:.1f} MB unzipped"
    )


if __name__ == "__main__":
    sys.exit(main())
