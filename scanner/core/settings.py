"""The base class and common types of configuration sections, and the validation of a document by its model."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from scanner.core.errors import BadInput
from scanner.core.strict_yaml import Document, Path

AccountId = Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")]
OuId = Annotated[str, StringConstraints(pattern=r"^(r-[0-9a-z]{4,32}|ou-[0-9a-z]{4,32}-[0-9a-z]{8,32})$")]
RegionName = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$")]


class Settings(BaseModel):
    """A section: frozen, no unknown keys, no type coercion (a quoted number is not a number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


T = TypeVar("T")
# YAML has lists, frozen settings want tuples: lax here, while the items stay strict.
Many = Annotated[tuple[T, ...], Field(strict=False)]


class Tag(Settings):
    """A resource tag: key and value, compared exactly."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    value: Annotated[str, StringConstraints(max_length=256)]


S = TypeVar("S", bound=Settings)


def validated(model: type[S], document: Document) -> S:
    """Return the model's instance of a document.

    Raises BadInput, which names the file, the line, the key and what is expected.
    """
    if not isinstance(document.data, dict):
        raise BadInput(f"{document.source}: empty, or not a mapping; expected the keys of {model.__name__}")
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        # A misspelt key is also missing under its right name: the misspelling says more.
        first, *others = sorted(
            error.errors(include_url=False, include_input=False), key=lambda e: e["type"] != "extra_forbidden"
        )
        path = _path_in(document, first["loc"])
        more = f" (and {len(others)} more)" if others else ""
        key = ".".join(str(part) for part in path) or "the whole file"
        raise BadInput(
            f"{document.where(path)}: {key}: {expected(first['type'], first['msg'])}{more}"
        ) from None


def _path_in(document: Document, location: tuple[int | str, ...]) -> Path:
    """Return the location without what pydantic adds to it (union members, '[key]')."""
    path: Path = ()
    data: Any = document.data
    for part in location:
        if isinstance(data, dict) and (part in data or part == location[-1]):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path = (*path, part)
    return path


def expected(kind: str, message: str) -> str:
    """Return one of pydantic's messages in words for the author of the file."""
    if kind == "extra_forbidden":
        return "unknown key; remove it or fix its spelling"
    if kind == "missing":
        return "missing; it has no default"
    if kind == "string_type":
        return "expected text; put it in quotes"
    plain = message.removeprefix("Value error, ").replace("Input should be", "expected")
    return plain.replace("Tuple", "the list").replace("tuple", "list")
