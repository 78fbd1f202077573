"""A run's summary counts also what the central account calls for itself: the store, the findings, the topic."""

import boto3
import pytest

from auto_defender.call_counts import count_own_calls
from scanner.aws.rate_limits import CallCounts
from storage.destination import open_store
from tests.functional.storage.test_store_s3 import BUCKET, answer_with


@pytest.fixture
def session(moto_session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    moto_session.client("s3").create_bucket(Bucket=BUCKET)
    return moto_session


def test_each_attempt_counts_and_what_was_throttled(session: boto3.Session) -> None:
    counts = CallCounts()
    count_own_calls(session, counts)
    answer_with(session, "PutObject", 503, "SlowDown", times=2)
    answer_with(session, "GetObject", 500, "InternalError", times=1)
    store = open_store(f"s3://{BUCKET}", session)
    store.write("a", b"x", "text/plain")
    assert store.read("a") == b"x"
    assert store.read("not there") is None
    assert counts.as_dict() == {
        "s3.get_object": {"calls": 3, "retries": 1, "throttles": 0},
        "s3.put_object": {"calls": 3, "retries": 2, "throttles": 2},
    }


def test_a_service_that_can_not_be_reached_is_counted_too(session: boto3.Session) -> None:
    counts = CallCounts()
    count_own_calls(session, counts)

    def refuse(**_: object) -> None:
        raise ConnectionRefusedError

    session.events.register_first("before-send.sns.ListTopics", refuse)
    with pytest.raises(ConnectionRefusedError):
        session.client("sns").list_topics()
    assert counts.as_dict() == {"sns.list_topics": {"calls": 1, "retries": 0, "throttles": 0}}


def test_a_member_s_calls_are_not_counted_twice(session: boto3.Session) -> None:
    counts = CallCounts()
    count_own_calls(session, counts)
    session.client("sts").get_caller_identity()
    assert counts.as_dict() == {}
