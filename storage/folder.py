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
        """Take the folder; check_writable() creates it."""
        self.root = root
        self._appending = threading.Lock()

    def check_writable(self) -> None:
        """Create the folder and try to write a file in it."""
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
        """Write to a temporary file in the same folder, then rename it."""
        self._replace(path, lambda temporary: temporary.write_bytes(body))

    def upload(self, path: str, source: Path, content_type: str) -> None:
        """Copy to a temporary file in the same folder, then rename it."""
        self._replace(path, lambda temporary: shutil.copyfile(source, temporary))

    def read(self, path: str) -> bytes | None:
        """Read the file."""
        file = self.root / checked(path)
        with _store_errors("read", file):
            try:
                return file.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def append(self, path: str, line: bytes) -> None:
        """Append, and flush to the disk."""
        target = self.root / checked(path)
        with self._appending, _store_errors("append to", target):
            _append(_with_folder(target), line.rstrip(b"\n") + b"\n")

    def create_exclusive(self, path: str, body: bytes) -> bool:
        """Hard-link a complete temporary file to the name, which then exists with its whole content or not at all."""
        target = self.root / checked(path)
        with _store_errors("create", target), _temporary(target) as temporary:
            temporary.write_bytes(body)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
        return True

    def delete(self, path: str) -> None:
        """Unlink."""
        file = self.root / checked(path)
        with _store_errors("delete", file):
            file.unlink(missing_ok=True)

    def list(self, prefix: str) -> list[str]:
        """Walk the folder part of the prefix."""
        folder = self.root / checked(prefix + "x").rpartition("/")[0]
        found = (
            (Path(parent) / name).relative_to(self.root).as_posix()
            for parent, _, names in os.walk(folder, onerror=_unless_absent)
            for name in names
            if not name.startswith(".")  # a write in progress
        )
        with _store_errors("list", folder):
            return sorted(path for path in found if path.startswith(prefix))

    def publish(self, source: str, target: str, names: Sequence[str]) -> None:
        """Point the symbolic link `target` at `source`: one rename, so that readers see one run or the other."""
        link = self.root / checked(target)
        temporary = link.with_name(f".{link.name}.{os.getpid()}")
        with _store_errors("point", link):
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(
                os.path.relpath(self.root / checked(source), link.parent), target_is_directory=True
            )
            try:
                temporary.replace(link)
            except IsADirectoryError as error:
                raise StoreFailed(
                    f"{link} is a folder, not a link that this program created; move it away"
                ) from error
            finally:
                temporary.unlink(missing_ok=True)

    def add_to_table(self, source: str, target: str) -> None:
        """Do nothing: for local files, the pattern runs/*/*/*/*/functions.csv is the table."""

    def url(self, path: str) -> str:
        """Return the file's path."""
        return str(self.root / checked(path))

    def link(self, path: str, expires_sec: int) -> str:
        """Return a file:// link; it does not expire."""
        return (self.root / checked(path)).resolve().as_uri()

    def _replace(self, path: str, fill: Callable[[Path], object]) -> None:
        target = self.root / checked(path)
        with _store_errors("write", target), _temporary(target) as temporary:
            fill(temporary)
            temporary.chmod(0o644)
            temporary.replace(target)


@contextmanager
def _store_errors(verb: str, path: Path) -> Iterator[None]:
    """Raise StoreFailed, in one line, for an OSError."""
    try:
        yield
    except OSError as error:
        raise StoreFailed(f"can't {verb} {path}: {error.strerror or error}") from error


def _append(target: Path, line: bytes) -> None:
    """Append the whole line or nothing: after a partial write the next line would continue it."""
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
    """Yield an empty temporary file in the target's folder, and delete it at the end."""
    handle, name = tempfile.mkstemp(dir=_with_folder(target).parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _with_folder(target: Path) -> Path:
    """Create a file's folder and return the file's path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _unless_absent(error: OSError) -> None:
    """Ignore a folder that does not exist, and raise any other error: a folder that can't be listed is not empty."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
