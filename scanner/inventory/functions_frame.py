"""Builds the functions frame from Lambda's answers: facts only, one row a function, no secrets.

Columns (categories unless said otherwise): account_id, region, function_name (str), runtime, package_type,
architecture, memory_mb (int32, MB), timeout_sec (int32, seconds), code_size_bytes (int64), layers (ARNs joined
by a space, in the order Lambda loads them), layer_count (int8), exec_wrapper (the value of
AWS_LAMBDA_EXEC_WRAPPER, "" where absent), env_names (which of the variables that a change would set
exist, joined by ";"), env_bytes (int32), env_readable (bool), revision_id (str), state, last_update_status ("" where the
answer lacks it), edge_replica (bool), signed (bool), kinds (joined by ";"), env_different (which of env_names have
another value than the configured one, joined by ";"; never the wrapper, whose value is in its own column), env_growth
(int32, bytes: by how much the environment grows once those have the configured value).

Values of variables are compared here and go no further.

A field that Lambda always returns and that is missing or of another type is -1 or "?": no check passes on
those. What can be derived (the ARN, the account's name) is not stored: a million rows must stay small.
"""

import json
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Union

import numpy as np
import orjson
import pandas as pd
from pydantic import SecretStr

from scanner.aws.errors import BrokenAnswer
from scanner.core.errors import WrongAccount
from scanner.settings import EXEC_WRAPPER, Variables, fill

UNREADABLE = "?"
EMPTY_ENVIRONMENT_BYTES = len("{}")
# FunctionConfiguration, Lambda API reference: kinds of function that a layer and a wrapper were never tried on.
KIND_FIELDS = {
    "DurableConfig": "durable",
    "CapacityProviderConfig": "capacity_provider",
    "TenancyConfig": "tenant_isolation",
    "AcceleratorConfig": "accelerator",
}
# The other members of FunctionConfiguration that were reviewed: none of them rules out a layer.
KNOWN_FIELDS = frozenset(
    "FunctionName FunctionArn Runtime Role Handler CodeSize Description Timeout MemorySize LastModified CodeSha256 "
    "Version VpcConfig DeadLetterConfig Environment KMSKeyArn TracingConfig MasterArn RevisionId Layers State "
    "StateReason StateReasonCode LastUpdateStatus LastUpdateStatusReason LastUpdateStatusReasonCode FileSystemConfigs "
    "SigningProfileVersionArn SigningJobArn PackageType ImageConfigResponse Architectures EphemeralStorage SnapStart "
    "RuntimeVersionConfig LoggingConfig ConfigSha256 RuntimeConfig ResponseMetadata".split()
)


_MOST_LAYERS = 127
# By the name of a variable that a change would set, its value without the function's name; None: not compared here.
_Wanted = Sequence[tuple[str, str | None]]
_TEXT = {str}


class _Codes:
    """A categorical column while it grows: each distinct string is kept once."""

    def __init__(self) -> None:
        self.code_of: dict[str, int] = {}
        self.codes = array("i")

    def extend(self, values: Iterable[str]) -> None:
        code_of = self.code_of
        values = tuple(values)
        for value in dict.fromkeys(values):
            code_of.setdefault(value, len(code_of))
        self.codes.extend(map(code_of.__getitem__, values))

    def finish(self) -> pd.Categorical:
        dtype = pd.CategoricalDtype(pd.Index(list(self.code_of), dtype="str"))
        return pd.Categorical.from_codes(np.frombuffer(self.codes, dtype="i4"), dtype=dtype)


_Column = Union[_Codes, "array[Any]", list[str]]
_CATEGORIES = (
    "account_id", "region", "runtime", "package_type", "architecture", "layers", "exec_wrapper", "env_names", "state",
    "last_update_status", "kinds", "env_different",
)  # fmt: skip
_NUMBERS = {
    "memory_mb": "i",
    "timeout_sec": "i",
    "code_size_bytes": "q",
    "layer_count": "b",
    "env_bytes": "i",
    "env_growth": "i",
}
_FLAGS = ("env_readable", "edge_replica", "signed")
_TEXTS = ("function_name", "revision_id")
COLUMNS = (
    "account_id", "region", "function_name", "runtime", "package_type", "architecture", "memory_mb", "timeout_sec",
    "code_size_bytes", "layers", "layer_count", "exec_wrapper", "env_names", "env_bytes", "env_readable", "revision_id",
    "state", "last_update_status", "edge_replica", "signed", "kinds", "env_different", "env_growth",
)  # fmt: skip


class FunctionsFrame:
    """Collects pages of Lambda's answers, column by column. Not thread-safe: one thread adds to it."""

    def __init__(self) -> None:
        """Start without functions."""
        self._columns: dict[str, _Column] = {
            name: _Codes()
            if name in _CATEGORIES
            else array(_NUMBERS.get(name, "b"))
            if name not in _TEXTS
            else []
            for name in COLUMNS
        }
        self._extends: list[Callable[[Iterable[Any]], None]] = [c.extend for c in self._columns.values()]

    def __len__(self) -> int:
        """Return the number of functions so far."""
        return len(self._columns["function_name"])  # type: ignore[arg-type]

    def add(self, account_id: str, region: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add the rows that `facts` made of one unit."""
        if not rows:
            return
        unit = ((account_id,) * len(rows), (region,) * len(rows))
        for extend, values in zip(self._extends, (*unit, *zip(*rows, strict=True)), strict=True):
            extend(values)

    def finish(self) -> pd.DataFrame:
        """Build the frame, rows in the order they were added."""
        return pd.DataFrame({name: _finished(name, column) for name, column in self._columns.items()})


def _finished(name: str, column: _Column) -> Any:
    if isinstance(column, _Codes):
        return column.finish()
    if isinstance(column, list):
        return pd.array(column, dtype="str")
    values = np.frombuffer(column, dtype=column.typecode)
    return values.astype(bool) if name in _FLAGS else values


def facts(
    configurations: Iterable[Any], partition: str, account_id: str, region: str, watched: Variables
) -> list[tuple[Any, ...]]:
    """Return the facts of FunctionConfiguration structures: a tuple a function, in the order of COLUMNS[2:].

    watched: the variables that a change would set (DefenderSettings.watched_variables). Raises WrongAccount where an ARN belongs to another account or region than the one asked, and
    BrokenAnswer where an item is no function.
    """
    prefix = f"arn:{partition}:lambda:{region}:{account_id}:function:"
    wanted = [(name, _in_unit(template, region, account_id)) for name, template in watched]
    rows = []
    for configuration in configurations:
        try:
            name, arn = configuration["FunctionName"], configuration["FunctionArn"]
            expected = prefix + name
        except (KeyError, TypeError):
            raise BrokenAnswer("an item without FunctionName or FunctionArn") from None
        if arn != expected:
            raise WrongAccount(
                f"asked for {expected}, AWS answered with {str(arn)[:200]!r}; nothing more is done"
            )
        rows.append((name, *_facts_of(configuration, wanted)))
    return rows


def _in_unit(template: SecretStr | None, region: str, account_id: str) -> str | None:
    if template is None:
        return None
    return fill(template.get_secret_value(), region=region, account_id=account_id)


def _facts_of(c: Mapping[str, Any], wanted: _Wanted) -> tuple[Any, ...]:
    get = c.get
    layers, layer_count = _layers(get("Layers"))
    variables, env_bytes = _environment(get("Environment"))
    names = [name for name, _ in wanted if name in variables]
    different = _different(variables, wanted, c["FunctionName"])
    return (
        _text(get("Runtime"), ""),
        _text(get("PackageType"), "Zip"),
        _architecture(get("Architectures")),
        _number(get("MemorySize"), 1, 2**31),
        _number(get("Timeout"), 1, 2**31),
        _number(get("CodeSize"), 0, 2**63),
        layers,
        layer_count,
        variables.get(EXEC_WRAPPER, ""),
        ";".join(names),
        env_bytes,
        env_bytes >= 0,
        _text(get("RevisionId"), ""),
        _text(get("State"), ""),
        _text(get("LastUpdateStatus"), ""),
        get("MasterArn") is not None or c["FunctionName"].startswith("us-east-1."),
        get("SigningJobArn") is not None or get("SigningProfileVersionArn") is not None,
        _kinds(c),
        ";".join(different),
        _growth(variables, different) if different else 0,
    )


def _text(value: Any, default: str) -> str:
    if value is None:
        return default
    return value if isinstance(value, str) else UNREADABLE


def _all_text(values: Iterable[Any]) -> bool:
    return {*map(type, values)} <= _TEXT


def _number(value: Any, least: int, limit: int) -> int:
    return value if type(value) is int and least <= value < limit else -1


def _architecture(value: Any) -> str:
    if value is None:
        return "x86_64"
    if isinstance(value, list) and value and _all_text(value):
        return ";".join(value)
    return UNREADABLE


def _layers(value: Any) -> tuple[str, int]:
    if value is None:
        return "", 0
    try:
        text = " ".join([layer["Arn"] for layer in value])
    except (KeyError, TypeError):
        return UNREADABLE, -1
    # The count is an int8, and an ARN with a space in it would read as two.
    if not isinstance(value, list) or len(value) > _MOST_LAYERS or text.count(" ") != max(0, len(value) - 1):
        return UNREADABLE, -1
    return text, len(value)


def _environment(value: Any) -> tuple[Mapping[str, str], int]:
    """Return the variables and the size that Lambda measures; none and -1 where they could not be read.

    Lambda measures the variables as a JSON object against its 4 KB quota: its refusal shows the string it measured.
    """
    if value is None:
        return {}, EMPTY_ENVIRONMENT_BYTES
    variables = value.get("Variables") if isinstance(value, dict) and value.get("Error") is None else None
    if not isinstance(variables, dict) or not _all_text(variables.values()):
        return {}, -1
    return variables, measured_bytes(variables)


def _different(variables: Mapping[str, str], wanted: _Wanted, function_name: str) -> dict[str, str]:
    """Return the wanted values of those variables that have another one."""
    different = {}
    for name, text in wanted:
        if text is not None and name in variables:
            value = text.replace("{function_name}", function_name)
            if variables[name] != value:
                different[name] = value
    return different


def _growth(variables: Mapping[str, str], values: Mapping[str, str]) -> int:
    """Return by how many bytes the environment grows once it has these values."""
    return measured_bytes(values) - measured_bytes({name: variables[name] for name in values})


# Made once: json.dumps makes an encoder a call where separators are given.
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def measured_bytes(variables: Mapping[str, str]) -> int:
    """Return the size of an environment as Lambda measures it: bytes of compact JSON in UTF-8."""
    try:
        return len(orjson.dumps(variables))
    except orjson.JSONEncodeError:  # a lone surrogate; the standard library can encode it
        return len(_compact(variables).encode("utf-8", "surrogatepass"))


def _kinds(c: Mapping[str, Any]) -> str:
    if KNOWN_FIELDS.issuperset(c):
        return ""
    unusual = c.keys() - KNOWN_FIELDS
    return ";".join(sorted(_kind(str(field)) for field in unusual if c[field] is not None))


def _kind(field: str) -> str:
    """Return the name of a kind; an empty one, or one with the separator in it, becomes one that can't be allowed."""
    return KIND_FIELDS.get(field, field).replace(";", UNREADABLE) or UNREADABLE


def frame_of(
    configurations: Iterable[Any], partition: str, account_id: str, region: str, watched: Variables
) -> pd.DataFrame:
    """Return a functions frame of some configurations of one unit, such as a GetFunctionConfiguration answer."""
    frame = FunctionsFrame()
    frame.add(account_id, region, facts(configurations, partition, account_id, region, watched))
    return frame.finish()
