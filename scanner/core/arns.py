"""ARNs of functions and layers, parsed and formatted."""

import re
from dataclasses import dataclass

import pandas as pd

_FUNCTION = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):lambda:(?P<region>[a-z0-9-]+):(?P<account_id>[0-9]{12})"
    r":function:(?P<name>[A-Za-z0-9_.-]{1,140})"
)
_LAYER = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):lambda:(?P<region>[a-z0-9-]+):(?P<account_id>[0-9]{12})"
    r":layer:(?P<name>[A-Za-z0-9_-]{1,140}):(?P<version>[0-9]{1,9})"
)

# Lambda counts the versions of a layer from 1.
ANY_VERSION = 0


@dataclass(frozen=True, slots=True)
class FunctionArn:
    """An unqualified function ARN."""

    partition: str
    region: str
    account_id: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "FunctionArn | None":
        """Parse an ARN; None for anything else, a qualified ARN (version, alias) included."""
        match = _FUNCTION.fullmatch(text)
        return cls(**match.groupdict()) if match else None

    def __str__(self) -> str:
        """Return the ARN."""
        return f"arn:{self.partition}:lambda:{self.region}:{self.account_id}:function:{self.name}"


@dataclass(frozen=True, slots=True)
class LayerVersion:
    """A layer version ARN; its identity is the publisher's account and the layer's name, exactly."""

    partition: str
    region: str
    account_id: str
    name: str
    version: int

    @classmethod
    def parse(cls, text: str) -> "LayerVersion | None":
        """Parse a layer version ARN; None for anything else."""
        match = _LAYER.fullmatch(text)
        if not match:
            return None
        partition, region, account_id, name, version = match.groups()
        return cls(partition, region, account_id, name, int(version))

    @classmethod
    def parse_pattern(cls, text: str) -> "LayerVersion | None":
        """Parse a layer version ARN whose version may be left out or `*`: it is ANY_VERSION then."""
        return cls.parse(text) or cls.parse(f"{text.removesuffix(':*')}:{ANY_VERSION}")

    def same_layer(self, other: "LayerVersion") -> bool:
        """Return whether both are versions of one layer (partition, region, publisher account and name)."""
        return (self.name, self.account_id, self.region, self.partition) == (
            other.name,
            other.account_id,
            other.region,
            other.partition,
        )

    def covers(self, other: "LayerVersion") -> bool:
        """Return whether the other one is this version; with ANY_VERSION, whether it is a version of this layer."""
        return self.same_layer(other) and self.version in (ANY_VERSION, other.version)

    def __str__(self) -> str:
        """Return the ARN."""
        return f"arn:{self.partition}:lambda:{self.region}:{self.account_id}:layer:{self.name}:{self.version}"


def function_arns(functions: pd.DataFrame, partition: str) -> pd.Series:
    """Return each row's function ARN, from account_id, region and function_name (no column of its own: memory)."""
    prefix = f"arn:{partition}:lambda:"
    region = functions["region"].astype("object")
    account = functions["account_id"].astype("object")
    return prefix + region + ":" + account + ":function:" + functions["function_name"].astype("object")
