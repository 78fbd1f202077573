"""Tags, where a rule needs them: a Resource Groups Tagging sweep a unit, never a call a function."""

import time

import numpy as np
import pandas as pd

from scanner.aws.caller import Aws
from scanner.core.errors import InternalError
from scanner.core.worker_pool import WorkerPool
from scanner.inventory.functions_frame import BrokenAnswer
from scanner.inventory.ledger import Unit, rows_by_unit
from scanner.inventory.unread import log_unit_error
from scanner.risk.rules import Rules
from scanner.settings import SweepSettings, Tag

_COLUMNS = ("required_tag", "optout_tag")


def add_tags(
    functions: pd.DataFrame, aws: Aws, rules: Rules, settings: SweepSettings, deadline: float | None = None
) -> pd.DataFrame:
    """Add required_tag, optout_tag (does the function carry it?) and tags_read, all bool, where a rule needs them.

    A unit whose tags could not be read has tags_read False: the checks then fail closed.
    """
    if not rules.need_tags:
        return functions
    columns = {name: np.zeros(len(functions), dtype=bool) for name in (*_COLUMNS, "tags_read")}
    rows_of = rows_by_unit(functions)
    workers: WorkerPool[Unit, tuple[set[str], set[str]]] = WorkerPool(
        lambda unit: _carriers(aws, unit, rules, time.monotonic() + settings.unit_timeout_sec),
        settings.workers,
        settings.unit_timeout_sec,
    )
    for done in workers.run(list(rows_of), deadline, aws.stop):
        rows = rows_of[done.task]
        if isinstance(done.error, InternalError):
            aws.stop.set()
            raise done.error
        if done.result is None:
            log_unit_error("tags", done.task, done.error)
            continue
        columns["tags_read"][rows] = True
        names = functions["function_name"].iloc[rows]
        for column, carriers in zip(_COLUMNS, done.result, strict=True):
            columns[column][rows] = names.isin(carriers).to_numpy()
    return functions.assign(**columns)


def _carriers(aws: Aws, unit: Unit, rules: Rules, deadline: float) -> tuple[set[str], set[str]]:
    """Name the functions of a unit that carry the required tag, and those that carry the opt-out tag."""
    return (
        functions_with(aws, unit, rules.require_tag, deadline),
        functions_with(aws, unit, rules.optout_tag, deadline),
    )


def functions_with(aws: Aws, unit: Unit, tag: Tag | None, deadline: float) -> set[str]:
    """Name the functions of a unit that carry a tag; none where there is no tag to look for."""
    if tag is None:
        return set()
    names: set[str] = set()
    token, seen = "", set[str]()
    while token not in seen:
        seen.add(token)
        # GetResources API reference: at most 100 resources a page; an empty PaginationToken ends the list.
        page = aws.call(
            unit.account_id,
            unit.region,
            "resourcegroupstaggingapi",
            "get_resources",
            deadline=deadline,
            ResourceTypeFilters=["lambda:function"],
            TagFilters=[{"Key": tag.key, "Values": [tag.value]}],
            ResourcesPerPage=100,
            PaginationToken=token,
        )
        names.update(item["ResourceARN"].rsplit(":", 1)[1] for item in page["ResourceTagMappingList"])
        token = page.get("PaginationToken", "")
        if not token:
            return names
    raise BrokenAnswer("get_resources: the same PaginationToken came twice")
