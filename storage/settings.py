"""The configuration section `storage`: files in a bucket."""

from typing import Annotated

from pydantic import StringConstraints

from scanner.core.settings import AccountId, Settings


class StorageSettings(Settings):
    """The account that must own the bucket (None: the one that runs this), and the KMS key (None: the bucket's default)."""

    bucket_owner: AccountId | None = None
    kms_key_id: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
