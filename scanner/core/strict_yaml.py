"""A strict subset of YAML: small, plain, no duplicate keys, no aliases; each key's line is known."""

from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from scanner.core.errors import BadInput

MAX_BYTES = 1_000_000
MAX_DEPTH = 20

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """The data of a YAML text, and the line (1-based) of each of its keys and items."""

    source: str
    data: Any
    lines: dict[Path, int]

    def where(self, path: Path) -> str:
        """Return where a key is: 'file, line N', of the nearest key that the text has."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}, line {self.lines[path]}" if path in self.lines else self.source


class _Reader:
    """Turns nodes into plain values; PyYAML's own constructor is used for scalars alone."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[Path, int] = {}
        self.scalars = yaml.SafeLoader("")

    def fail(self, node: Node, problem: str) -> BadInput:
        return _fault(self.source, node.start_mark, problem)

    def value(self, node: Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self.scalar(node)

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, ScalarNode) else None
            if key is None:
                raise self.fail(key_node, "a key must be a plain word")
            if key in result:
                raise self.fail(key_node, f"the key '{key}' stands twice; keep one")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, (*path, key))
        return result

    def scalar(self, node: Node) -> Any:
        try:
            return self.scalars.construct_object(node)
        except (ValueError, yaml.YAMLError):
            raise self.fail(
                node, "a value that is no valid date, number or word; quote it if it is text"
            ) from None


def read_yaml(text: bytes, source: str) -> Document:
    """Read one YAML document.

    Raises BadInput, naming the source and the line: not UTF-8, larger than 1 MB, no YAML, more than one
    document, a duplicate key, an alias (a few can expand to gigabytes), or nesting deeper than 20 levels.
    """
    if len(text) > MAX_BYTES:
        raise BadInput(f"{source}: {len(text):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{source}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    reader = _Reader(source)
    node = _compose(decoded, source)
    return Document(source, None if node is None else reader.value(node, ()), reader.lines)


def _compose(text: str, source: str) -> Node | None:
    """Compose the node tree, after checking the events: nothing is built from a text that is refused."""
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            problem = _unsupported(event, depth)
            if problem:
                raise _fault(source, event.start_mark, problem)
        return yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _fault(
            source, error.problem_mark, f"not YAML: {error.problem or 'it can not be read'}"
        ) from None
    except yaml.YAMLError as error:
        raise BadInput(f"{source}: not YAML: {str(error).splitlines()[0]}") from None


def _unsupported(event: yaml.Event, depth: int) -> str | None:
    if getattr(event, "anchor", None):
        return "anchors and aliases are not taken"
    if getattr(event, "tag", None):
        return "tags that begin with ! are not taken"
    return f"nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else None


def _fault(source: str, mark: Any, problem: str) -> BadInput:
    line = f", line {mark.line + 1}" if mark else ""
    return BadInput(f"{source}{line}: {problem}")
