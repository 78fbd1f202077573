"""The picture of the house in docs/architecture.md is held against the folders and the imports that there are."""

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "architecture.md"


def pictured() -> list[str]:
    """The folders of the picture, in its order."""
    house = DOCUMENT.read_text().partition("## The house")[2].partition("```")[2].partition("```")[0]
    return re.findall(r"^([a-z_]+)/ ", house, re.MULTILINE)


def imported_by(package: str) -> set[str]:
    """The top-level packages that a package imports, wherever in its files it does."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import hides where it goes"
                found.add(str(node.module).partition(".")[0])
    return found


def packaged() -> list[str]:
    """The rooms that are shipped, in the picture's order."""
    text = (ROOT / "pyproject.toml").read_text()
    shipped = re.search(r"^include = \[(.*auto_defender.*)\]", text, re.MULTILINE)
    assert shipped
    return [name for name in pictured() if f'"{name}*"' in shipped[1]]


def test_each_room_knows_those_below_it_and_none_above() -> None:
    rooms = packaged()
    assert len(rooms) == 4
    for place, room in enumerate(rooms):
        others = imported_by(room) & set(pictured()) - {room}
        assert others <= set(rooms[place + 1 :]), f"{room} imports {sorted(others)}"


def test_each_room_is_used_by_one_above_it() -> None:
    rooms = packaged()
    for place, room in enumerate(rooms[1:], start=1):
        assert any(room in imported_by(above) for above in rooms[:place]), room


def test_the_picture_shows_every_folder_with_code_in_it_and_no_other() -> None:
    command = ["git", "-C", str(ROOT), "ls-files", "*.py", "*.yaml"]
    files = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    folders = {file.partition("/")[0] for file in files if "/" in file and not file.startswith(".")}
    assert set(pictured()) == folders
