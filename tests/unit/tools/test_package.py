"""The Lambda zip: the same bytes each time, only what runs, and nothing that its runtime can't load."""

from __future__ import annotations

import os
import platform
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tools.package import __main__ as package
from tools.package import archive, stage, target
from tools.package.shared_objects import suffices, unloadable
from tools.package.target import Target
from tools.package.trial import CannotImport, try_import

OWN = "x86_64" if platform.machine() == "x86_64" else "arm64"
OTHER = "arm64" if OWN == "x86_64" else "x86_64"
FILES = {"b/two.py": b"2", "a.py": b"1", "b/one.so": b"\x00" * 100}


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    archive.write_zip(folder_of(path / "files", files), path / "a.zip")
    return path / "a.zip"


def test_the_same_files_give_the_same_bytes_wherever_and_whenever_they_were_written(tmp_path: Path) -> None:
    first = zip_of(tmp_path / "first", FILES)
    later = folder_of(tmp_path / "later", dict(reversed(FILES.items())))
    os.utime(later / "a.py", (0, 2_000_000_000))
    (later / "a.py").chmod(0o755)
    archive.write_zip(later, tmp_path / "later.zip")
    assert archive.sha256(first) == archive.sha256(tmp_path / "later.zip")


def test_every_file_is_in_the_zip_and_readable_by_lambda(tmp_path: Path) -> None:
    with zipfile.ZipFile(zip_of(tmp_path, FILES)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == FILES
        assert opened.namelist() == sorted(FILES)
        assert {entry.external_attr >> 16 for entry in opened.infolist()} == {0o100644}


def test_a_zip_over_lambdas_limit_is_refused_and_one_at_the_limit_is_not(tmp_path: Path) -> None:
    path = zip_of(tmp_path, FILES)
    assert package.what_is_wrong(path, Target("python3.11", OWN), 102) == []
    assert package.what_is_wrong(path, Target("python3.11", OWN), 101) == [
        "102 bytes unzipped; Lambda takes 101"
    ]


def test_wheels_are_chosen_for_the_runtimes_c_library() -> None:
    amazon_linux_2 = Target("python3.11", "arm64").platforms
    assert {"manylinux_2_26_aarch64", "manylinux_2_24_aarch64", "manylinux2014_aarch64"} <= set(
        amazon_linux_2
    )
    assert "manylinux_2_27_aarch64" not in amazon_linux_2
    amazon_linux_2023 = Target("python3.13", "x86_64").platforms
    assert "manylinux_2_34_x86_64" in amazon_linux_2023
    assert "manylinux_2_35_x86_64" not in amazon_linux_2023


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """A zip with numpy's own shared objects, as they are installed here."""
    folder = Path(np.__file__).parent
    return zip_of(
        tmp_path, {file.name: file.read_bytes() for file in folder.glob("_core/_multiarray_umath*.so")}
    )


def test_a_wheel_for_an_older_c_library_loads(compiled: Path) -> None:
    assert unloadable(compiled, Target("python3.11", OWN)) == []


def test_a_shared_object_that_needs_a_newer_c_library_is_named(
    compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(target.GLIBC, "python3.11", (2, 3))
    (line,) = unloadable(compiled, Target("python3.11", OWN))
    assert line.startswith("_multiarray_umath")
    assert ": needs GLIBC_2." in line
    assert line.endswith("; python3.11 has glibc 2.3")


def test_a_shared_object_for_another_processor_is_named(compiled: Path) -> None:
    (line,) = unloadable(compiled, Target("python3.11", OTHER))
    assert " is for EM_" in line


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("GLIBC_2.2.5", True),
        ("GLIBC_2.26", True),
        ("GLIBC_2.27", False),
        ("GLIBC_3.0", False),
        ("GLIBC_PRIVATE", False),
        ("GLIBC_ABI_DT_RELR", False),
    ],
)
def test_a_c_library_suffices_for_its_own_version_and_older_ones(version: str, enough: bool) -> None:
    assert suffices((2, 26), version) is enough


def test_compiled_modules_carry_no_path_of_this_machine_and_are_the_same_each_time(tmp_path: Path) -> None:
    folders = [
        folder_of(tmp_path / name, {"module.py": b"def f():\n    return 1\n"}) for name in ("one", "two")
    ]
    for folder in folders:
        stage.compile_bytecode(sys.executable, folder)
    first, second = [next(folder.rglob("*.pyc")).read_bytes() for folder in folders]
    assert first == second
    assert b"/var/task/module.py" in first


def test_the_handler_is_imported_from_the_zip_alone(tmp_path: Path) -> None:
    path = zip_of(
        tmp_path, {"auto_defender/__init__.py": b"", "auto_defender/lambda_handler.py": b"import json\n"}
    )
    assert try_import(path, sys.executable) > 0


def test_a_module_missing_from_the_zip_is_reported(tmp_path: Path) -> None:
    path = zip_of(
        tmp_path, {"auto_defender/__init__.py": b"", "auto_defender/lambda_handler.py": b"import pandas\n"}
    )
    with pytest.raises(CannotImport, match="No module named 'pandas'"):
        try_import(path, sys.executable)
