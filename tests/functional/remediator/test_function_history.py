"""What `explain` says of each change."""

import pytest

from auto_defender.stages.function_history import function_history, history_lines
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import FakeLambda, layer
from tests.unit.remediator.harness import RUN, WRAPPER, Harness, one, settings

pytestmark = pytest.mark.usefixtures("short_waits")


def line(harness: Harness, arn: str) -> str:
    (entry,) = history_lines(function_history(harness.journals, arn), [])[1:]
    return entry.partition(f"run {RUN}: ")[2]


def test_a_change_of_values_alone_names_them(harness: Harness, aws: FakeLambda) -> None:
    variables = {"TW_POLICY": "old", EXEC_WRAPPER: WRAPPER}
    arn = aws.add(Layers=[{"Arn": layer(4)}], Environment={"Variables": variables})
    assert one(harness.apply())["action"] == "repair"
    assert line(harness, arn) == "repair, changed; gives new values to TW_POLICY"


def test_an_upgrade_names_what_it_replaces_and_what_it_takes_away(harness: Harness, aws: FakeLambda) -> None:
    earlier, other = layer(3, "earlier"), layer(2, "earlier-still")
    base = "arn:aws:lambda:{region}:999988887777:layer:"
    previous = {
        "layers": (f"{base}earlier:*", f"{base}earlier-still:*"),
        "wrappers": ("/opt/earlier/wrapper",),
    }
    harness.defender = settings(previous=previous)
    variables = {EXEC_WRAPPER: "/opt/earlier/wrapper"}
    arn = aws.add(Layers=[{"Arn": earlier}, {"Arn": other}], Environment={"Variables": variables})
    assert one(harness.apply())["outcome"] == "changed"
    (row,) = function_history(harness.journals, arn)
    assert (row["layer_before"], row["layers_removed"]) == (earlier, [other])
    assert line(harness, arn).endswith(
        f", changed; adds TW_POLICY; replaces layer {earlier} by {layer(4)}; "
        f"gives new values to {EXEC_WRAPPER}; removes {other}"
    )
