"""The store below a local folder."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from reports.store_base import StoreFailed, checked
from scanner.errors import BadInput


class FolderStore:
    """Files below a local folder."""

    def __init__(self, root: Path) -> None:
        """Take the folder; check_writable() makes it."""
        self.root = root
        self._appending = threading.Lock()

    def check_writable(self) -> None:
        """Make the folder and try a file in it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise BadInput(
                f"output: can't write to the folder {self.root}: {error.strerror}; "
                "name another one with --output or the key 'output'"
            ) from error

    def write(self, path: str, body: bytes, content_type: str) -> None:
        """Write to a temporary file beside it, then rename."""
        target = self._target(path)
        self._replace(target, lambda temporary: temporary.write_bytes(body))

    def upload(self, path: str, source: Path, content_type: str) -> None:
        """Copy by way of a temporary file, then rename."""
        target = self._target(path)
        self._replace(target, lambda temporary: shutil.copyfile(source, temporary))

    def read(self, path: str) -> bytes | None:
        """Read the file."""
        try:
            return (self.root / checked(path)).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def append(self, path: str, line: bytes) -> None:
        """Append, and flush to the disk."""
        target = self._target(path)
        with self._appending, target.open("ab") as file:
            file.write(line.rstrip(b"\n") + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def create_exclusive(self, path: str, body: bytes) -> bool:
        """Link a finished file to its name: the name appears with its content, or not at all."""
        target = self._target(path)
        temporary = self._temporary(target, body)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def delete(self, path: str) -> None:
        """Unlink."""
        (self.root / checked(path)).unlink(missing_ok=True)

    def list(self, prefix: str) -> list[str]:
        """Walk the folder part of the prefix."""
        folder = self.root / checked(prefix + "x").rpartition("/")[0]
        found = (
            (Path(parent) / name).relative_to(self.root).as_posix()
            for parent, _, names in os.walk(folder)
            for name in names
            if not name.startswith(".")  # a write that is under way
        )
        return sorted(path for path in found if path.startswith(prefix))

    def publish(self, source: str, target: str, names: Sequence[str]) -> None:
        """Point the symbolic link `target` at `source`: one rename, so that readers see one run or the other."""
        link = self.root / checked(target)
        temporary = link.with_name(f".{link.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(
            os.path.relpath(self.root / checked(source), link.parent), target_is_directory=True
        )
        try:
            temporary.replace(link)
        except OSError as error:
            temporary.unlink()
            raise StoreFailed(
                f"{link} is a folder of its own, not a link that this program made; move it away"
            ) from error

    def add_to_table(self, source: str, target: str) -> None:
        """Do nothing: a pattern such as runs/*/*/*/*/functions.csv is a table where files are local."""

    def url(self, path: str) -> str:
        """Give the file's path."""
        return str(self.root / checked(path))

    def link(self, path: str, expires_sec: int) -> str:
        """Give a file:// link; it does not expire."""
        return (self.root / checked(path)).resolve().as_uri()

    def _target(self, path: str) -> Path:
        target = self.root / checked(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    @staticmethod
    def _temporary(target: Path, body: bytes = b"") -> Path:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(body)
        return Path(name)

    def _replace(self, target: Path, fill: Callable[[Path], object]) -> None:
        temporary = self._temporary(target)
        try:
            fill(temporary)
            temporary.chmod(0o644)
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreFailed(f"can't write {target}: {error.strerror}") from error
