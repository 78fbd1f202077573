"""The store below a local folder."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scanner.core.errors import BadInput
from storage.protocol import StoreFailed, checked


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
        self._replace(path, lambda temporary: temporary.write_bytes(body))

    def upload(self, path: str, source: Path, content_type: str) -> None:
        """Copy by way of a temporary file, then rename."""
        self._replace(path, lambda temporary: shutil.copyfile(source, temporary))

    def read(self, path: str) -> bytes | None:
        """Read the file."""
        file = self.root / checked(path)
        with _told("read", file):
            try:
                return file.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def append(self, path: str, line: bytes) -> None:
        """Append, and flush to the disk."""
        target = self.root / checked(path)
        with self._appending, _told("append to", target):
            _append(_with_folder(target), line.rstrip(b"\n") + b"\n")

    def create_exclusive(self, path: str, body: bytes) -> bool:
        """Link a finished file to its name: the name appears with its content, or not at all."""
        target = self.root / checked(path)
        with _told("create", target), _temporary(target) as temporary:
            temporary.write_bytes(body)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
        return True

    def delete(self, path: str) -> None:
        """Unlink."""
        file = self.root / checked(path)
        with _told("delete", file):
            file.unlink(missing_ok=True)

    def list(self, prefix: str) -> list[str]:
        """Walk the folder part of the prefix."""
        folder = self.root / checked(prefix + "x").rpartition("/")[0]
        found = (
            (Path(parent) / name).relative_to(self.root).as_posix()
            for parent, _, names in os.walk(folder, onerror=_unless_absent)
            for name in names
            if not name.startswith(".")  # a write that is under way
        )
        with _told("list", folder):
            return sorted(path for path in found if path.startswith(prefix))

    def publish(self, source: str, target: str, names: Sequence[str]) -> None:
        """Point the symbolic link `target` at `source`: one rename, so that readers see one run or the other."""
        link = self.root / checked(target)
        temporary = link.with_name(f".{link.name}.{os.getpid()}")
        with _told("point", link):
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(
                os.path.relpath(self.root / checked(source), link.parent), target_is_directory=True
            )
            try:
                temporary.replace(link)
            except IsADirectoryError as error:
                raise StoreFailed(
                    f"{link} is a folder of its own, not a link that this program made; move it away"
                ) from error
            finally:
                temporary.unlink(missing_ok=True)

    def add_to_table(self, source: str, target: str) -> None:
        """Do nothing: a pattern such as runs/*/*/*/*/functions.csv is a table where files are local."""

    def url(self, path: str) -> str:
        """Give the file's path."""
        return str(self.root / checked(path))

    def link(self, path: str, expires_sec: int) -> str:
        """Give a file:// link; it does not expire."""
        return (self.root / checked(path)).resolve().as_uri()

    def _replace(self, path: str, fill: Callable[[Path], object]) -> None:
        target = self.root / checked(path)
        with _told("write", target), _temporary(target) as temporary:
            fill(temporary)
            temporary.chmod(0o644)
            temporary.replace(target)


@contextmanager
def _told(verb: str, path: Path) -> Iterator[None]:
    """Turn what the disk or the system refuses into one clear line."""
    try:
        yield
    except OSError as error:
        raise StoreFailed(f"can't {verb} {path}: {error.strerror or error}") from error


def _append(target: Path, line: bytes) -> None:
    """Append the whole line or nothing: a disk that is full halfway would glue the next line to what is left."""
    with target.open("ab", buffering=0) as file:
        end = file.tell()
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Make an empty file beside the target, and leave none behind."""
    handle, name = tempfile.mkstemp(dir=_with_folder(target).parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _with_folder(target: Path) -> Path:
    """Make the folder that a file is to stand in."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _unless_absent(error: OSError) -> None:
    """Let a walk pass over a folder that is not there, and over no other fault: what can't be listed is not empty."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
