"""Reads a configuration, an opt-out file or a plan: from a file, s3://bucket/key or ssm:NAME."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from scanner.aws.errors import describe, error_code
from scanner.core.errors import BadInput
from scanner.core.strict_yaml import MAX_BYTES
from storage.address import S3, bucket_and_key, local_path

# The account that must own the bucket of the configuration, which can't name it itself.
OWNER_VARIABLE = "AUTO_DEFENDER_CONFIG_BUCKET_OWNER"
# S3 needs no region to be called; STS is then called in the region that S3 is.
_REGION = "us-east-1"


@dataclass(frozen=True)
class _Owner:
    """The account that must own a bucket, and what sets it."""

    account_id: str
    set_by: str


def read_configuration_file(source: str, session: boto3.Session, environ: Mapping[str, str]) -> bytes:
    """Read a configuration; its bucket must belong to the account that OWNER_VARIABLE names, or else the caller's."""
    owner = environ.get(OWNER_VARIABLE) or None
    if owner is not None and not re.fullmatch(r"\d{12}", owner, re.ASCII):
        raise BadInput(f"environment variable {OWNER_VARIABLE}: expected an account id of 12 digits")
    return read_source(source, session, "configuration", owner, OWNER_VARIABLE)


def read_source(
    source: str,
    session: boto3.Session,
    what: str,
    bucket_owner: str | None,
    owner_key: str = "storage.bucket_owner",
    most: int = MAX_BYTES,
) -> bytes:
    """Read a configuration, an opt-out file or a plan; raise BadInput, in one line, where that is not possible.

    what: its name in the error message, such as "configuration". bucket_owner: the account that must own the bucket;
    None: the caller's. owner_key: what sets bucket_owner. most: bytes; of a larger text `most` + 1 bytes are returned,
    which its parser rejects, so that 100 MB never enter memory.
    """
    try:
        if source.startswith(S3):
            owner = bucket_owner or caller_account(session, session.region_name or _REGION)
            return _from_s3(source, session, what, _Owner(owner, owner_key), most)
        if source.startswith("ssm:"):
            return _from_ssm(source.removeprefix("ssm:"), session)
        return _from_file(local_path(source, what), most)
    except OSError as error:
        raise BadInput(f"{what} {source}: {error.strerror or error}") from None
    except (ClientError, BotoCoreError) as error:
        raise BadInput(f"{what} {source}: {describe(error)}") from None


def caller_account(session: boto3.Session, region: str) -> str:
    """Return the account of the session's credentials."""
    try:
        return str(session.client("sts", region_name=region).get_caller_identity()["Account"])
    except (ClientError, BotoCoreError) as error:
        raise BadInput(f"the AWS credentials do not work: {describe(error)}") from None


def _from_file(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most + 1)


def _from_s3(source: str, session: boto3.Session, what: str, owner: _Owner, most: int) -> bytes:
    bucket, key = bucket_and_key(source, what)
    if not key:
        raise BadInput(f"{what}: '{source}' names no object; expected s3://bucket/key")
    try:
        answer = session.client("s3").get_object(Bucket=bucket, Key=key, ExpectedBucketOwner=owner.account_id)
    except ClientError as error:
        if error_code(error) != "AccessDenied":
            raise
        raise BadInput(
            f"{what} {source}: access is denied, or the bucket is not owned by account {owner.account_id}; "
            f"check the policies of the role and the bucket, or set {owner.set_by}"
        ) from None
    return bytes(answer["Body"].read(most + 1))


def _from_ssm(name: str, session: boto3.Session) -> bytes:
    answer = session.client("ssm").get_parameter(Name=name, WithDecryption=True)
    return str(answer["Parameter"].get("Value", "")).encode()
