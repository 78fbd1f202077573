"""Reads a configuration, an opt-out file or a plan: from a file, s3://bucket/key or ssm:NAME."""

from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from scanner.aws.errors import describe
from scanner.core.errors import BadInput
from scanner.core.strict_yaml import MAX_BYTES


def read_source(source: str, session: boto3.Session, what: str, most: int = MAX_BYTES) -> bytes:
    """Read a configuration, an opt-out file or a plan; raise BadInput, in one line, where that is not possible.

    what: its name in the error message, such as "configuration". most: bytes; of a larger text `most` + 1 bytes are
    returned, which its parser rejects, so that 100 MB never enter memory.
    """
    try:
        if source.startswith("s3://"):
            return _from_s3(source, session, most)
        if source.startswith("ssm:"):
            return _from_ssm(source.removeprefix("ssm:"), session)
        return _from_file(Path(source).expanduser(), most)
    except OSError as error:
        raise BadInput(f"{what} {source}: {error.strerror or error}") from None
    except (ClientError, BotoCoreError) as error:
        raise BadInput(f"{what} {source}: {describe(error)}") from None


def _from_file(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most + 1)


def _from_s3(source: str, session: boto3.Session, most: int) -> bytes:
    address = urlsplit(source)
    answer = session.client("s3").get_object(Bucket=address.netloc, Key=address.path.lstrip("/"))
    return bytes(answer["Body"].read(most + 1))


def _from_ssm(name: str, session: boto3.Session) -> bytes:
    answer = session.client("ssm").get_parameter(Name=name, WithDecryption=True)
    return str(answer["Parameter"].get("Value", "")).encode()
