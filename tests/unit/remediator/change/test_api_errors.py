"""AWS's words for a refusal become one of ours, and never carry a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.change.api_errors import CALL_ERRORS, classify_error, redacted
from scanner.aws.errors import BrokenAnswer, LostAnswer, Throttled, TimedOut, Unreachable
from tests.unit.remediator.fake_lambda import refusal


@pytest.mark.parametrize(
    ("error", "kind", "ending"),
    [
        (Throttled("x"), "throttled", "deferred"),
        (TimedOut("x"), "timed_out", "deferred"),
        (Unreachable("x"), "fault", "deferred"),
        (BrokenAnswer("x"), "fault", "deferred"),
        (LostAnswer("x"), "lost_answer", "deferred"),
        (refusal("PreconditionFailedException"), "concurrent_deploy", "deferred"),
        (refusal("KMSDisabledException"), "kms", "failed"),
        (refusal("InvalidParameterValueException", "Unzipped size must be smaller than 262144000 bytes"), "size_limit", "failed"),
        (refusal("AccessDeniedException", "x is not authorized to perform: kms:CreateGrant on resource: y"), "kms", "failed"),
        (refusal("AccessDenied", "x is not authorized to perform: sts:AssumeRole", "AssumeRole"), "denied_by_policy", "failed"),
    ],
)  # fmt: skip
def test_every_error_of_a_call_has_its_meaning(error: Exception, kind: str, ending: str) -> None:
    assert isinstance(error, CALL_ERRORS)
    meaning = classify_error(error)
    assert (meaning.kind, meaning.outcome) == (kind, ending)
    assert "\n" not in str(meaning)


@given(st.text(min_size=1, max_size=30), st.text(max_size=40), st.text(max_size=40))
def test_a_value_that_was_sent_never_comes_back(value: str, before: str, after: str) -> None:
    text = redacted(f"{before}{value}{after}", [value])
    assert value not in text.replace("***", "") or value.strip("*") == ""


def test_a_quoted_environment_is_cut_off() -> None:
    assert redacted('Too large. String measured: {"A":"b"}', []) == "Too large. String measured:"
    assert (
        redacted("1 validation error detected: Value 'hunter2' at 'x'", []) == "1 validation error detected:"
    )
