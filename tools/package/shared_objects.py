"""Read each shared object in a zip: whether it is for the target's machine and its C library is new enough there."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from tools.package.target import Target

ELF = b"\x7fELF"
GLIBC_VERSION = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")


def unloadable(path: Path, target: Target) -> list[str]:
    """Return one line for each shared object in the zip at `path` that can't load on `target`."""
    with zipfile.ZipFile(path) as archive:
        return [
            f"{name}: {problem}"
            for name in archive.namelist()
            for problem in _problems(archive.read(name), target)
        ]


def _problems(content: bytes, target: Target) -> Iterator[str]:
    if not content.startswith(ELF):
        return
    elf = ELFFile(io.BytesIO(content))
    machine = elf["e_machine"]
    if machine != target.elf_machine:
        yield f"is for {machine}, not {target.elf_machine}"
    too_new = sorted(version for version in _needed_glibc(elf) if not suffices(target.glibc, version))
    if too_new:
        have = ".".join(str(part) for part in target.glibc)
        yield f"needs {', '.join(too_new)}; {target.runtime} has glibc {have}"


def _needed_glibc(elf: ELFFile) -> set[str]:
    return {
        needed.name
        for section in elf.iter_sections()
        if isinstance(section, GNUVerNeedSection)
        for _library, versions in section.iter_versions()
        for needed in versions
        if needed.name.startswith("GLIBC_")
    }


def suffices(glibc: tuple[int, int], version: str) -> bool:
    """Return whether a C library has `version`; one without a number (GLIBC_PRIVATE, GLIBC_ABI_…) counts as missing."""
    number = GLIBC_VERSION.fullmatch(version)
    return number is not None and (int(number[1]), int(number[2])) <= glibc
