"""What the zip is built for: a Lambda runtime on an architecture, and which compiled wheels load there."""

from __future__ import annotations

from dataclasses import dataclass

# The C library of each runtime: python3.11 runs on Amazon Linux 2, the newer ones on Amazon Linux 2023.
GLIBC = {"python3.11": (2, 26), "python3.12": (2, 34), "python3.13": (2, 34)}
# Lambda's name of an architecture: the name that wheel tags and Linux use, and the ELF header's.
MACHINES = {"x86_64": ("x86_64", "EM_X86_64"), "arm64": ("aarch64", "EM_AARCH64")}
OLDEST_MANYLINUX = 5


@dataclass(frozen=True, slots=True)
class Target:
    """A Lambda runtime (such as "python3.11") on an architecture ("x86_64" or "arm64")."""

    runtime: str
    architecture: str

    @property
    def glibc(self) -> tuple[int, int]:
        """Return the version of the C library that the runtime has."""
        return GLIBC[self.runtime]

    @property
    def python_version(self) -> str:
        """Return the Python version, such as "3.11"."""
        return self.runtime.removeprefix("python")

    @property
    def machine(self) -> str:
        """Return the architecture as wheel tags and the operating system name it."""
        return MACHINES[self.architecture][0]

    @property
    def elf_machine(self) -> str:
        """Return the machine that each shared object must be for, as ELF headers name it."""
        return MACHINES[self.architecture][1]

    @property
    def platforms(self) -> list[str]:
        """Return the platform tags of wheels that load there, best first; newer manylinux wheels would not."""
        major, newest = self.glibc
        numbered = [
            f"manylinux_{major}_{minor}_{self.machine}" for minor in range(newest, OLDEST_MANYLINUX - 1, -1)
        ]
        return [*numbered, f"manylinux2014_{self.machine}"]
