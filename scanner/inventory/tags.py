"""Which functions carry a tag: Resource Groups Tagging lists them a unit and tag, without a call a function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.aws.caller import Aws
from scanner.aws.pagination import pages
from scanner.core.settings import Tag
from scanner.inventory.ledger import Unit, rows_by_unit
from scanner.inventory.parallel import read_units
from scanner.settings import SweepSettings

Flags = npt.NDArray[np.bool_]
_PAGINATION_TOKEN = ("PaginationToken", "PaginationToken")


@dataclass(frozen=True)
class TagFlags:
    """A flag a row of a functions frame: whether its unit's tags were read, and whether it carries each tag."""

    read: Flags
    carried: Mapping[Tag, Flags]


def add_tags(
    functions: pd.DataFrame,
    required: Tag | None,
    optout: Tag | None,
    aws: Aws,
    settings: SweepSettings,
    deadline: float | None = None,
) -> pd.DataFrame:
    """Return the frame with required_tag, optout_tag (whether the function carries it) and tags_read, all bool.

    The frame is returned unchanged where there is no tag to look for. A unit whose tags could not be read has tags_read
    False, and the checks then fail.
    """
    tags = [tag for tag in (required, optout) if tag is not None]
    if not tags:
        return functions
    flags = read_tag_flags(functions, tags, aws, settings, deadline)
    none = np.zeros(len(functions), dtype=bool)
    return functions.assign(
        required_tag=flags.carried[required] if required else none,
        optout_tag=flags.carried[optout] if optout else none,
        tags_read=flags.read,
    )


def read_tag_flags(
    functions: pd.DataFrame,
    tags: Sequence[Tag],
    aws: Aws,
    settings: SweepSettings,
    deadline: float | None = None,
) -> TagFlags:
    """Return which functions carry which tags. Without tags nothing is called, and all count as read."""
    read = np.full(len(functions), not tags, dtype=bool)
    carried = {tag: np.zeros(len(functions), dtype=bool) for tag in tags}
    rows_of = rows_by_unit(functions) if tags else {}

    def carriers(unit: Unit, until: float) -> list[set[str]]:
        return [_functions_with(aws, unit, tag, until) for tag in tags]

    for answer in read_units("tags", list(rows_of), carriers, aws, settings, deadline):
        if answer.result is None:
            continue
        rows = rows_of[answer.unit]
        read[rows] = True
        names = functions["function_name"].iloc[rows]
        for tag, carrying in zip(tags, answer.result, strict=True):
            carried[tag][rows] = names.isin(carrying).to_numpy()
    return TagFlags(read, carried)


def _functions_with(aws: Aws, unit: Unit, tag: Tag, deadline: float) -> set[str]:
    where = (unit.account_id, unit.region, "resourcegroupstaggingapi", "get_resources")
    # GetResources API reference: at most 100 resources a page.
    listing = pages(
        aws, *where, token=_PAGINATION_TOKEN, deadline=deadline, ResourceTypeFilters=["lambda:function"],
        TagFilters=[{"Key": tag.key, "Values": [tag.value]}], ResourcesPerPage=100,
    )  # fmt: skip
    return {
        item["ResourceARN"].rsplit(":", 1)[1] for page in listing for item in page["ResourceTagMappingList"]
    }
