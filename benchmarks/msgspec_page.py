"""A ListFunctions page as a msgspec type: the fields that the functions frame reads; msgspec skips the rest."""

from typing import Any

import msgspec


class Layer(msgspec.Struct):
    """A layer of a function."""

    Arn: str


class FunctionEnvironment(msgspec.Struct):
    """A function's variables."""

    Variables: dict[str, str] = {}


class Function(msgspec.Struct):
    """The fields of a FunctionConfiguration that are read."""

    FunctionName: str
    FunctionArn: str
    Runtime: str = ""
    PackageType: str = ""
    RevisionId: str = ""
    State: str = ""
    LastUpdateStatus: str = ""
    CodeSize: int = -1
    Timeout: int = -1
    MemorySize: int = -1
    Architectures: list[str] = []
    Layers: list[Layer] = []
    Environment: FunctionEnvironment | None = None


class Page(msgspec.Struct):
    """One answer."""

    Functions: list[Function]
    NextMarker: str = ""


_decoder = msgspec.json.Decoder(Page)


def loads(body: bytes) -> dict[str, Any]:
    """The page with typed functions."""
    page = _decoder.decode(body)
    return {"Functions": page.Functions, "NextMarker": page.NextMarker}
