"""What a user writes as an address: `s3://bucket/key`, read as written, or a local path."""

from pathlib import Path

from scanner.core.errors import BadInput

S3 = "s3://"


def bucket_and_key(address: str, what: str) -> tuple[str, str]:
    """Split `s3://bucket/key`. An object's key may have any character: '#', '?' and '%' are its own.

    Raise BadInput where no bucket is named; the key may be empty. what: whose address it is, for the message.
    """
    bucket, _, key = address.removeprefix(S3).partition("/")
    if not bucket:
        raise BadInput(f"{what}: '{address}' names no bucket; expected s3://bucket/...")
    return bucket, key


def local_path(text: str, what: str) -> Path:
    """Return a local path, with `~` and `~user` replaced; raise BadInput for a home folder that is not known.

    what: whose path it is, for the message.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        home = Path(text).parts[0]
        raise BadInput(
            f"{what}: '{text}': the home folder {home} is not known; write the whole path"
        ) from None
    if "\0" in text:
        raise BadInput(f"{what}: '{text}': a path has no NUL character")
    return path
