"""What only S3 has: encryption, owners, lost answers, refusals."""

import io
import urllib.parse
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse

from scanner.core.errors import BadInput
from storage.destination import open_store
from storage.protocol import StoreFailed
from storage.s3 import EXPIRES
from storage.segments import Segments

BUCKET = "reports-of-111122223333"


@pytest.fixture
def session(moto_session: boto3.Session) -> boto3.Session:
    moto_session.client("s3").create_bucket(Bucket=BUCKET)
    return moto_session


def sent_by(session: boto3.Session) -> list[tuple[str, dict[str, str]]]:
    """Record each S3 call's operation and headers."""
    seen: list[tuple[str, dict[str, str]]] = []

    def record(request: Any, **_: Any) -> None:
        seen.append((request.method, {key.lower(): _text(value) for key, value in request.headers.items()}))

    session.events.register("before-send.s3.*", lambda request, **_: record(request))
    return seen


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def test_every_write_is_encrypted_checksummed_private_and_for_the_expected_owner(
    session: boto3.Session,
) -> None:
    seen = sent_by(session)
    store = open_store(f"s3://{BUCKET}/p", session, bucket_owner="123456789012", kms_key_id="alias/reports")
    store.check_writable()
    store.write("runs/1/summary.json", b"{}", "application/json")
    store.upload("runs/1/small.csv", [b"x" * (9 << 20)], "text/csv; charset=utf-8")
    tag = store.create("state/lock", b"mine")
    assert tag
    store.replace("state/lock", b"mine again", tag)
    store.publish("runs/1", "latest", ["small.csv", "summary.json"])
    store.add_to_table("runs/1/small.csv", "tables/small/dt=2026-11-24/1/small.csv")
    assert {headers.get("x-amz-expected-bucket-owner") for _, headers in seen} == {"123456789012"}
    assert not [headers for _, headers in seen if "x-amz-acl" in headers]
    client = session.client("s3")
    for key in (
        "runs/1/summary.json",
        "runs/1/small.csv",
        "state/lock",
        "latest/small.csv",
        "tables/small/dt=2026-11-24/1/small.csv",
    ):
        head = client.head_object(Bucket=BUCKET, Key=f"p/{key}", ChecksumMode="ENABLED")
        assert head["ServerSideEncryption"] == "aws:kms", key
        assert head["SSEKMSKeyId"].endswith("alias/reports"), key
    assert (
        client.head_object(Bucket=BUCKET, Key="p/latest/small.csv")["ContentType"]
        == "text/csv; charset=utf-8"
    )
    puts = [headers for method, headers in seen if method == "PUT" and "x-amz-copy-source" not in headers]
    assert all("sha256" in str(headers).lower() for headers in puts)


def test_what_may_expire_is_tagged_and_a_journal_is_not(session: boto3.Session) -> None:
    store = open_store(f"s3://{BUCKET}", session, bucket_owner=None, kms_key_id=None)
    store.upload("runs/1/small.csv", [b"x"], "text/csv")
    store.upload("runs/1/large.csv", [b"x" * (9 << 20)], "text/csv")  # in parts
    store.create("journals/1/00001.jsonl", b"{}")
    store.publish("runs/1", "latest", ["small.csv"])
    s3 = session.client("s3")
    tags = {
        path: [(tag["Key"], tag["Value"]) for tag in s3.get_object_tagging(Bucket=BUCKET, Key=path)["TagSet"]]
        for path in store.list("")
    }
    assert tags == {
        "runs/1/small.csv": [EXPIRES],
        "runs/1/large.csv": [EXPIRES],
        "journals/1/00001.jsonl": [],
        "latest/small.csv": [],
    }


def test_without_a_key_the_buckets_default_encryption_holds(session: boto3.Session) -> None:
    rule = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/default"}
    }
    session.client("s3").put_bucket_encryption(
        Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]}
    )
    sent: list[bytes] = []
    session.events.register("before-send.s3.PutObject", lambda request, **_: sent.extend(request.headers))
    open_store(f"s3://{BUCKET}", session).write("a", b"x", "text/plain")
    assert sent
    assert not [name for name in sent if "encryption" in str(name).lower()]


def test_a_bucket_that_does_not_exist_is_one_clear_line(session: boto3.Session) -> None:
    with pytest.raises(BadInput, match=r"s3://no-such-bucket-here does not exist"):
        open_store("s3://no-such-bucket-here/p", session).check_writable()


@pytest.mark.parametrize("destination", ["s3://", "s3:///prefix", "https://example.com/x", "gs://b", " "])
def test_an_address_that_is_neither_is_one_clear_line(session: boto3.Session, destination: str) -> None:
    with pytest.raises(BadInput, match="output: "):
        open_store(destination, session)


def test_a_bucket_that_refuses_is_one_clear_line(session: boto3.Session) -> None:
    answer_with(session, "HeadBucket", 403, "AccessDenied")
    with pytest.raises(BadInput, match=r"is denied, or it is not owned by account 123456789012"):
        open_store(f"s3://{BUCKET}", session, bucket_owner="123456789012").check_writable()


def test_no_credentials_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(BadInput, match="no AWS credentials were found"):
        open_store("s3://bucket-name/p", boto3.Session(region_name="us-east-1")).check_writable()


def test_a_fault_that_passes_is_retried(session: boto3.Session) -> None:
    answered = answer_with(session, "PutObject", 503, "SlowDown", times=2)
    open_store(f"s3://{BUCKET}", session).write("a", b"x", "text/plain")
    assert len(answered) == 2
    assert open_store(f"s3://{BUCKET}", session).read("a") == b"x"


def test_a_fault_that_stays_is_one_clear_line(session: boto3.Session) -> None:
    answer_with(session, "PutObject", 403, "AccessDenied")
    with pytest.raises(StoreFailed, match=rf"can't write s3://{BUCKET}/p/a: AccessDenied"):
        open_store(f"s3://{BUCKET}/p", session).write("a", b"x", "text/plain")


def test_a_lock_whose_answer_was_lost_is_still_ours(session: boto3.Session) -> None:
    """The first try creates the object but its answer is lost; the retry is refused by our own object."""
    session.client("s3").put_object(Bucket=BUCKET, Key="state/lock", Body=b"run 1 on host a")
    store = open_store(f"s3://{BUCKET}", session)
    assert store.create("state/lock", b"run 1 on host a")
    assert not store.create("state/lock", b"run 2 on host b")


def test_a_renewal_whose_answer_was_lost_is_still_ours(session: boto3.Session) -> None:
    store = open_store(f"s3://{BUCKET}", session)
    read = store.create("state/lock", b"run 1")
    session.client("s3").put_object(Bucket=BUCKET, Key="state/lock", Body=b"run 1, renewed")
    assert read
    assert store.replace("state/lock", b"run 2", read) is None
    assert store.replace("state/lock", b"run 1, renewed", read)


def test_a_journal_costs_what_is_written_and_no_more(session: boto3.Session) -> None:
    """A journal that was put again with each append sent 4.3 GB for 5,000 changes."""
    sent: list[int] = []
    session.events.register(
        "before-send.s3.PutObject",
        lambda request, **_: sent.append(int(request.headers["X-Amz-Decoded-Content-Length"])),
    )
    journal = Segments(open_store(f"s3://{BUCKET}", session), "journals/run")
    for number in range(200):
        journal.append(b"%0850d\n" % number)
    assert sent == [851] * 200


def test_a_link_opens_without_credentials_of_ones_own(session: boto3.Session) -> None:
    link = open_store(f"s3://{BUCKET}/p", session).link("latest/report.html", 900)
    parts = urllib.parse.urlsplit(link)
    assert parts.scheme == "https"
    assert parts.path.endswith("/p/latest/report.html")
    assert "X-Amz-Expires=900" in parts.query


def answer_with(session: boto3.Session, operation: str, status: int, code: str, times: int = 99) -> list[str]:
    """Answer the session's next calls of an S3 operation with an error (moto carries them out all the same)."""
    answered: list[str] = []
    body = b"" if operation.startswith("Head") else f"<Error><Code>{code}</Code></Error>".encode()

    class Raw(io.BytesIO):
        def stream(self, **_: Any) -> Iterator[bytes]:
            yield self.read()

    def answer(**_: Any) -> AWSResponse | None:
        if len(answered) >= times:
            return None
        answered.append(code)
        return AWSResponse("https://s3", status, {}, Raw(body))

    session.events.register_first(f"before-send.s3.{operation}", answer)
    return answered


def test_the_session_used_is_the_one_given(session: boto3.Session) -> None:
    """Guards the helpers above: what they register on the session reaches the store's client."""
    assert isinstance(session._session, botocore.session.Session)
    seen = sent_by(session)
    open_store(f"s3://{BUCKET}", session).write("a", b"x", "text/plain")
    assert seen


def test_keys_that_are_no_paths_are_left_out(session: boto3.Session) -> None:
    """A console's "create folder", and what only a hand can have written."""
    for key in ("p/state/open/", "p/state/open/../x.json", "p/state/open/a\\b.json", "p/state/open/1.json"):
        session.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"{}")
    assert open_store(f"s3://{BUCKET}/p", session).list("state/open/") == ["state/open/1.json"]
