"""The configuration section `storage`: how files are kept where the output is a bucket."""

from typing import Annotated

from pydantic import StringConstraints

from scanner.settings import AccountId, Settings


class StorageSettings(Settings):
    """Whose bucket it must be (None: the account that runs this), and the KMS key (None: the bucket's own default)."""

    bucket_owner: AccountId | None = None
    kms_key_id: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
