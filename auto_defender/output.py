"""Opens the store of a run's files; a bucket must belong to the expected account."""

import boto3

from auto_defender.config import Configuration
from auto_defender.sources import caller_account
from scanner.aws.caller import home_region
from storage.address import S3
from storage.destination import open_store
from storage.protocol import Store


def open_output(
    settings: Configuration, session: boto3.Session, output: str | None = None, *, writable: bool = True
) -> Store:
    """Open the output; `output` overrides the configuration's. writable: check that it can be written."""
    destination = output or settings.output
    owner = settings.storage.bucket_owner
    if destination.startswith(S3) and owner is None:
        owner = caller_account(session, home_region(session, settings.organization))
    store = open_store(destination, session, bucket_owner=owner, kms_key_id=settings.storage.kms_key_id)
    if writable:
        store.check_writable()
    return store
