"""The configuration sections of what is told to whom: `storage` for files in a bucket, `security_hub`."""

from typing import Annotated

from pydantic import StringConstraints

from scanner.core.settings import AccountId, RegionName, Settings


class StorageSettings(Settings):
    """Whose bucket it must be (None: the account that runs this), and the KMS key (None: the bucket's own default)."""

    bucket_owner: AccountId | None = None
    kms_key_id: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None


class SecurityHubSettings(Settings):
    """Whether findings are imported, and into which region's Security Hub (None: the region that this runs in)."""

    enabled: bool = False
    region: RegionName | None = None
