"""docs/architecture.md matches folders and import contracts, documents name files that exist, the image gets all packages."""

import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "architecture.md"


def documented_packages() -> list[str]:
    """Return the packages and sub-packages of the document's tree, in its order, as dotted names."""
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Packages")[2]
    tree = section.partition("```")[2].partition("```")[0]
    names: list[str] = []
    package = ""
    for indent, name in re.findall(r"^( *)([a-z0-9_]+)/ ", tree, re.MULTILINE):
        package = package if indent else name
        names.append(f"{package}.{name}" if indent else name)
    return names


def files_in_git(*patterns: str) -> list[str]:
    """Return the paths of the files in git that match."""
    command = ["git", "-C", str(ROOT), "ls-files", *patterns]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def folders_with_code() -> set[str]:
    """Return the folders in git with code or templates in them, two levels deep, as dotted names."""
    files = files_in_git("*.py", "*.yaml")
    folders = [Path(file).parts[:-1] for file in files if not file.startswith(".")]
    return {".".join(folder[:depth]) for folder in folders for depth in (1, 2) if len(folder) >= depth}


def contract_layers() -> list[list[set[str]]]:
    """Return the layers of each import contract, from the top down; a layer may have several packages."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    return [
        [
            {f"{container}.{name}".strip(".") for name in re.findall(r"[\w.]+", layer)}
            for layer in contract["layers"]
        ]
        for contract in contracts
        if contract["type"] == "layers"
        for container in contract.get("containers", [""])
    ]


def test_the_tree_lists_every_folder_with_code_and_no_other() -> None:
    documented = documented_packages()
    assert len(documented) == len(set(documented))
    assert set(documented) == folders_with_code()


def test_the_tree_lists_packages_in_the_order_of_the_import_contracts() -> None:
    position = {name: number for number, name in enumerate(documented_packages())}
    contracts = contract_layers()
    assert {"auto_defender"} in contracts[0]
    for layers in contracts:
        documented = [sorted(position[name] for name in layer if name in position) for layer in layers]
        for upper, lower in pairwise(filter(None, documented)):
            assert upper[-1] < lower[0], layers


def test_documents_name_files_and_documents_that_exist() -> None:
    files = set(files_in_git())
    missing = []
    for name in files_in_git("*.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        # docs/promises.md names tests by their path below tests/.
        named = set(re.findall(r"[`(]((?:[\w-]+/)+[\w-]+\.(?:py|cfg))\b", text))
        missing += [f"{name}: {path}" for path in named if not {path, f"tests/{path}"} & files]
        linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
        missing += [f"{name}: {path}" for path in linked if not (ROOT / name).parent.joinpath(path).exists()]
    assert missing == []


def test_the_image_gets_every_package_that_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    sent = re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(copied) == set(sent) == packages
    # The simulator's imports are checked, and it is not shipped.
    assert packages == set(project["tool"]["importlinter"]["root_packages"]) - {"simulator"}
