"""The configuration sections `storage`, for files in a bucket, and `security_hub`."""

from typing import Annotated

from pydantic import StringConstraints

from scanner.core.settings import AccountId, RegionName, Settings


class StorageSettings(Settings):
    """The account that must own the bucket (None: the one that runs this), and the KMS key (None: the bucket's default)."""

    bucket_owner: AccountId | None = None
    kms_key_id: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None


class SecurityHubSettings(Settings):
    """Whether findings are imported, and the region of the Security Hub (None: the region that this runs in)."""

    enabled: bool = False
    region: RegionName | None = None
