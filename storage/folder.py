"""The store below a local folder."""

import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from scanner.core.errors import BadInput
from storage.protocol import JSON, StoreFailed, Tagged, checked


class FolderStore:
    """Files below a local folder.

    The modes of uploaded files follow the umask, as any other program's do. All others coordinate runs, which may be of
    several users: whoever may write to their folder may read them, and new folders have the mode of the one above.
    """

    def __init__(self, root: Path) -> None:
        """Take the folder; check_writable() creates it."""
        self.root = root

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

    def read(self, path: str) -> bytes | None:
        """Read the file."""
        file = self.root / checked(path)
        with _store_errors("read", file):
            return _content(file)

    def read_tagged(self, path: str) -> Tagged | None:
        """Read the file; its tag is its SHA-256 digest."""
        body = self.read(path)
        return None if body is None else Tagged(body, _tag(body))

    def write(self, path: str, body: bytes, content_type: str) -> None:
        """Write to a temporary file in the same folder, then rename it."""
        target = self.root / checked(path)
        with _store_errors("write", target):
            self._share_folder(target)
            _put(target, body, Path.replace)

    def upload(self, path: str, chunks: Iterable[bytes], content_type: str) -> None:
        """Write to a temporary file in the same folder, then rename it."""
        target = self.root / checked(path)
        with _store_errors("write", target), _temporary(target) as (file, temporary):
            file.writelines(chunks)
            file.close()
            temporary.replace(target)

    def create(self, path: str, body: bytes, content_type: str = JSON) -> str | None:
        """Hard-link a complete temporary file to the name, which then exists with its whole content or not at all."""
        target = self.root / checked(path)
        with _store_errors("create", target):
            self._share_folder(target)
            return _tag(body) if _put(target, body, _link) else None

    def replace(self, path: str, body: bytes, tag: str) -> str | None:
        """Compare and rename under a lock of the operating system, which ends with its process."""
        target = self.root / checked(path)
        with _store_errors("replace", target), _exclusive(self._share_folder(target)):
            before = _content(target)
            if before is None or _tag(before) != tag:
                return None
            _put(target, body, Path.replace)
        return _tag(body)

    def delete(self, path: str) -> None:
        """Unlink."""
        file = self.root / checked(path)
        with _store_errors("delete", file):
            file.unlink(missing_ok=True)

    def folders(self, prefix: str) -> list[str]:
        """Read one folder."""
        folder, start = self._folder_of(prefix), prefix.rpartition("/")[2]
        with _store_errors("list", folder):
            try:
                with os.scandir(folder) as entries:
                    return sorted(one.name for one in entries if one.is_dir() and one.name.startswith(start))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def list(self, prefix: str) -> list[str]:
        """Walk the folder part of the prefix, and of the folders in it those whose paths begin with the prefix."""
        folder = self._folder_of(prefix)
        with _store_errors("list", folder):
            return sorted(path for path in self._walk(folder, prefix) if path.startswith(prefix))

    def _walk(self, folder: Path, prefix: str) -> Iterator[str]:
        for parent, folders, names in os.walk(folder, onerror=_unless_absent):
            inside = Path(parent).relative_to(self.root)
            folders[:] = [
                name
                for name in folders
                if (inside / name).as_posix().startswith(prefix) or parent != str(folder)
            ]
            yield from (
                (inside / name).as_posix() for name in names if not name.startswith(".")
            )  # a write in progress

    def publish(self, source: str, target: str, names: Sequence[str]) -> None:
        """Point the symbolic link `target` at `source`: one rename, so that readers see one run or the other."""
        link = self.root / checked(target)
        temporary = _temporary_name(link)
        with _store_errors("point", link):
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

    def _share_folder(self, target: Path) -> Path:
        """Create the folder of a file, with the mode of the folder above, and return the file's path."""
        missing = [path for path in target.parents if path.is_relative_to(self.root) and not path.exists()]
        _with_folder(target)
        for folder in reversed(missing):
            if folder != self.root:
                folder.chmod(stat.S_IMODE(folder.parent.stat().st_mode))
        return target

    def _folder_of(self, prefix: str) -> Path:
        return self.root / checked(prefix + "x").rpartition("/")[0]


@contextmanager
def _store_errors(verb: str, path: Path) -> Iterator[None]:
    """Raise StoreFailed, in one line, for an OSError."""
    try:
        yield
    except OSError as error:
        raise StoreFailed(f"can't {verb} {path}: {error.strerror or error}") from error


def _tag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _link(temporary: Path, target: Path) -> bool:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    return True


def _put(target: Path, body: bytes, place: Callable[[Path, Path], object]) -> bool:
    """Write a temporary file to the disk, place it under its name, and write the folder to the disk.

    Return whether it could be placed.

    Whoever may write to the folder may read the file, whatever the umask: it is how runs of several users coordinate.
    """
    with _temporary(target) as (file, temporary):
        file.write(body)
        file.flush()
        os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o777 | _writers_of(target.parent) * 2)
        os.fsync(file.fileno())
        file.close()
        placed = bool(place(temporary, target))
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return placed


@contextmanager
def _exclusive(target: Path) -> Iterator[None]:
    """Exclude other processes that replace the same file."""
    mode = 0o600 | _writers_of(target.parent) * 3
    guard = os.open(target.with_name(f".{target.name}.lock"), os.O_RDWR | os.O_CREAT, mode)
    try:
        if os.fstat(guard).st_uid == os.getuid():
            os.fchmod(guard, mode)
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield
    finally:
        os.close(guard)


def _writers_of(folder: Path) -> int:
    """Return the write bits of a folder's group and others; twice that are their read bits."""
    return folder.stat().st_mode & 0o022


@contextmanager
def _temporary(target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Yield a new temporary file in the target's folder, and delete it at the end."""
    path = _temporary_name(_with_folder(target))
    try:
        with path.open("xb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def _temporary_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}")


def _with_folder(target: Path) -> Path:
    """Create a file's folder and return the file's path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _unless_absent(error: OSError) -> None:
    """Ignore a folder that does not exist, and raise any other error: a folder that can't be listed is not empty."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
