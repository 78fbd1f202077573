"""What runs did to one function, by their journals."""

from collections.abc import Sequence
from typing import Any

from remediator.journal.history import entries_of
from remediator.journal.journal import Entry
from remediator.journal.journals import Journals
from reports.data.summary import utc


def function_history(journals: Journals, function_arn: str) -> list[dict[str, Any]]:
    """Return an entry a change, oldest first: run_id, at, action, outcome, detail, layer, variables, undone_by, undoes,
    layer_before, variables_changed, layers_removed, further_layers.

    layer and variables (names): what was added, or what a rollback removed. layer_before: what the layer replaced.
    variables_changed (names): what got another value. layers_removed: further layers of ours that went. further_layers:
    those that a removal, or a rollback without a journal entry, took besides `layer`.
    """  # noqa: D205
    return [_row(entry) for entry in entries_of(journals, function_arn)]


def _row(entry: Entry) -> dict[str, Any]:
    intent, ended = entry.intent, entry.outcome
    return {
        "run_id": intent.run_id,
        "at": utc(entry.begun),
        "action": intent.action,
        "outcome": ended.outcome if ended else "open",
        "detail": ended.detail if ended else "the next run finds out how it ended",
        "layer": intent.delta.layer,
        "variables": list(intent.delta.variables_added),
        "undone_by": entry.undone_by,
        "undoes": sorted({run_id for run_id, _ in intent.undoes}),
        "layer_before": intent.delta.layer_before,
        "variables_changed": list(intent.delta.variables_changed),
        "layers_removed": [layer for _, layer in intent.delta.layers_removed],
        "further_layers": [] if intent.undoes else [delta.layer for delta in intent.deltas[1:]],
    }


def history_lines(history: list[dict[str, Any]], refused: Sequence[str]) -> list[str]:
    """Return a function's history as text. refused: what of the journals can't be ours, and is not part of it."""
    missing = [f"history: not known in full: {problem}" for problem in refused]
    if not history:
        return missing or ["history: no run has changed it"]
    return ["history:", *map(_line, history), *missing]


def _line(row: dict[str, Any]) -> str:
    runs = ", ".join(row["undoes"])
    parts = [
        f"{row['action']}, {row['outcome']}",
        f"removes what run {runs} added" if runs else _made(row),
        f"rolled back by run {row['undone_by']}" if row["undone_by"] else "",
        row["detail"] if row["outcome"] not in {"changed", "rolled_back"} else "",
    ]
    return f"         {row['at']}  run {row['run_id']}: {'; '.join(filter(None, parts))}"


def _made(row: dict[str, Any]) -> str:
    layer, before = row["layer"], row["layer_before"]
    added = ([f"layer {layer}"] if layer and not before else []) + row["variables"]
    if row["action"] in {"remove", "rollback"}:
        return "removes " + ", ".join(added + [f"layer {layer}" for layer in row["further_layers"]])
    parts = (
        ("adds ", added),
        ("replaces ", [f"layer {before} by {layer}"] if before else []),
        ("gives new values to ", row["variables_changed"]),
        ("removes ", row["layers_removed"]),
    )
    return "; ".join(verb + ", ".join(things) for verb, things in parts if things)
