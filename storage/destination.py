"""Opens the destination that a configuration or an option names: a folder or s3://bucket/prefix."""

import boto3

from scanner.core.errors import BadInput
from storage.address import S3, local_path
from storage.folder import FolderStore
from storage.protocol import Store
from storage.s3 import S3Store


def open_store(
    destination: str,
    session: boto3.Session | None = None,
    *,
    bucket_owner: str | None = None,
    kms_key_id: str | None = None,
) -> Store:
    """Open a folder or `s3://bucket/prefix`.

    session: the boto3 Session that S3 is called with; None: boto3's default chain.
    bucket_owner: the account id that must own the bucket (ExpectedBucketOwner); None: not checked.
    kms_key_id: encrypt with this KMS key (SSE-KMS); None: as the bucket's default encryption says.
    Raise BadInput for an address that can be neither; whether it exists is not checked (check_writable does that).
    """
    if destination.startswith(S3):
        return S3Store.at(
            destination, session or boto3.Session(), bucket_owner=bucket_owner, kms_key_id=kms_key_id
        )
    if "://" in destination or not destination.strip():
        raise BadInput(f"output: '{destination}' is neither a folder nor s3://bucket/prefix")
    return FolderStore(local_path(destination, "output"))
