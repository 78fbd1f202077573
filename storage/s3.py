"""The store below s3://bucket/prefix: encrypted, checksummed, never public, conditional where it must be."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from scanner.core.errors import BadInput
from storage.address import bucket_and_key
from storage.protocol import JSON, READERS, StoreFailed, Tagged, checked, is_inside

# Standard mode retries throttling, 5xx and connection faults with exponential back-off and jitter.
# Links are signed with Signature Version 4: S3 takes no other for objects under a KMS key.
_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 6},
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=READERS,
    signature_version="s3v4",
)
# The tag of files that may expire: all of a run's but its journal, which a rollback needs. A lifecycle rule can only
# distinguish files of one folder by tag (stacksets/central.yaml).
EXPIRES = ("expires", "true")
_TRANSFER = TransferConfig(max_concurrency=4)
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_TAKEN = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


class S3Store:
    """Objects below one prefix of one bucket."""

    def __init__(
        self, client: BaseClient, bucket: str, prefix: str, owner: str | None, kms: str | None
    ) -> None:
        """Take a client and where to write; use `at` to open an s3:// address."""
        self._s3: Any = client
        self._bucket = bucket
        self._prefix = prefix
        self._bucket_parameters = {"Bucket": bucket} | ({"ExpectedBucketOwner": owner} if owner else {})
        self._owner = owner
        # Without a configured key no header is sent: it would override the bucket's default encryption.
        self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms} if kms else {}

    @classmethod
    def at(
        cls, url: str, session: boto3.Session, *, bucket_owner: str | None, kms_key_id: str | None
    ) -> "S3Store":
        """Open `s3://bucket/prefix` with a boto3 Session."""
        bucket, prefix = bucket_and_key(url, "output")
        client = session.client("s3", config=_CONFIG)
        prefix = prefix.strip("/")
        return cls(client, bucket, prefix + "/" if prefix else "", bucket_owner, kms_key_id)

    def check_writable(self) -> None:
        """Call HeadBucket, then write the object state/write-check."""
        name = f"output: the bucket s3://{self._bucket}"
        try:
            self._s3.head_bucket(**self._bucket_parameters)
            self._put("state/write-check", b"", "text/plain")
        except NoCredentialsError as error:
            raise BadInput("output: no AWS credentials were found to write to S3 with") from error
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _ABSENT | {"NoSuchBucket"}:
                raise BadInput(f"{name} does not exist; create it or name another") from error
            owner = f", or it is not owned by account {self._owner}" if self._owner else ""
            if code in {"403", "AccessDenied"}:
                raise BadInput(
                    f"output: access to s3://{self._bucket} is denied{owner}; check its policy and this role's"
                ) from error
            raise BadInput(f"{name} can't be written to: {code}") from error
        except BotoCoreError as error:
            raise BadInput(f"{name} can't be reached: {error}") from error

    def read(self, path: str) -> bytes | None:
        """Get one object."""
        found = self.read_tagged(path)
        return found.body if found else None

    def read_tagged(self, path: str) -> Tagged | None:
        """Get one object; its tag is its ETag."""
        with self._store_errors("read", path):
            try:
                answer = self._s3.get_object(**self._bucket_parameters, Key=self._key(path))
                return Tagged(answer["Body"].read(), answer["ETag"])
            except ClientError as error:
                if error.response["Error"]["Code"] in _ABSENT:
                    return None
                raise

    def write(self, path: str, body: bytes, content_type: str) -> None:
        """Put one object."""
        with self._store_errors("write", path):
            self._put(path, body, content_type)

    def upload(self, path: str, chunks: Iterable[bytes], content_type: str) -> None:
        """Put one object, in parts if it is large, tagged as one that may expire."""
        extra = {
            **self._encryption,
            "ContentType": content_type,
            "ChecksumAlgorithm": "SHA256",
            "Tagging": "=".join(EXPIRES),
        }
        if self._owner:
            extra["ExpectedBucketOwner"] = self._owner
        with self._store_errors("upload", path):
            self._s3.upload_fileobj(
                _Chunks(chunks), self._bucket, self._key(path), ExtraArgs=extra, Config=_TRANSFER
            )

    def create(self, path: str, body: bytes, content_type: str = JSON) -> str | None:
        """Put with If-None-Match."""
        return self._put_if(path, body, content_type, IfNoneMatch="*")

    def replace(self, path: str, body: bytes, tag: str) -> str | None:
        """Put with If-Match."""
        return self._put_if(path, body, JSON, IfMatch=tag)

    def delete(self, path: str) -> None:
        """Delete one object."""
        with self._store_errors("delete", path):
            self._s3.delete_object(**self._bucket_parameters, Key=self._key(path))

    def folders(self, prefix: str) -> list[str]:
        """List common prefixes, page by page: the objects below them are neither returned nor billed."""
        with self._store_errors("list", prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                **self._bucket_parameters, Prefix=self._prefix + prefix, Delimiter="/"
            )
            found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def list(self, prefix: str) -> list[str]:
        """List all objects, page by page. Keys that are no path, such as a console's "folders", are left out."""
        with self._store_errors("list", prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                **self._bucket_parameters, Prefix=self._prefix + prefix
            )
            keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return sorted(path for key in keys if is_inside(path := key.removeprefix(self._prefix)))

    def publish(self, source: str, target: str, names: Sequence[str]) -> None:
        """Copy within S3; files of an older run in `target` are deleted before the last file is written."""
        *first, last = names
        stale = set(self.list(f"{target}/")) - {f"{target}/{name}" for name in names}
        for name in first:
            self._copy(f"{source}/{name}", f"{target}/{name}")
        for path in sorted(stale):
            self.delete(path)
        self._copy(f"{source}/{last}", f"{target}/{last}")

    def add_to_table(self, source: str, target: str) -> None:
        """Copy within S3."""
        self._copy(source, target)

    def url(self, path: str) -> str:
        """Return the s3:// address."""
        return f"s3://{self._bucket}/{self._key(path)}"

    def link(self, path: str, expires_sec: int) -> str:
        """Sign a GET; it also stops working when the credentials that signed it expire."""
        parameters = {"Bucket": self._bucket, "Key": self._key(path)}
        signed: str = self._s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=expires_sec)
        return signed

    def _key(self, path: str) -> str:
        return self._prefix + checked(path)

    def _put(self, path: str, body: bytes, content_type: str, **condition: str) -> str:
        answer = self._s3.put_object(
            **self._bucket_parameters,
            **self._encryption,
            **condition,
            Key=self._key(path),
            Body=body,
            ContentType=content_type,
            ChecksumAlgorithm="SHA256",
        )
        return str(answer["ETag"])

    def _put_if(self, path: str, body: bytes, content_type: str, **condition: str) -> str | None:
        """Put on a condition. After a lost answer the retry is refused for our own object, so contents are compared."""
        with self._store_errors("write", path):
            try:
                return self._put(path, body, content_type, **condition)
            except ClientError as error:
                if error.response["Error"]["Code"] not in _TAKEN | _ABSENT:
                    raise
            found = self.read_tagged(path)
            return found.tag if found and found.body == body else None

    def _copy(self, source: str, target: str) -> None:
        """Copy in one call (up to 5 GB), which keeps the content type; a multipart copy would lose it.

        Tags are not copied: that would require a permission to read them.
        """
        owner = {"ExpectedSourceBucketOwner": self._owner} if self._owner else {}
        with self._store_errors("copy to", target):
            self._s3.copy_object(
                **self._bucket_parameters,
                **self._encryption,
                **owner,
                Key=self._key(target),
                CopySource={"Bucket": self._bucket, "Key": self._key(source)},
                ChecksumAlgorithm="SHA256",
                TaggingDirective="REPLACE",
            )

    @contextmanager
    def _store_errors(self, verb: str, path: str) -> Iterator[None]:
        """Raise StoreFailed, in one line, for an error that remains after the retries."""
        try:
            yield
        except (ClientError, BotoCoreError, S3UploadFailedError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            raise StoreFailed(
                f"can't {verb} s3://{self._bucket}/{self._prefix}{path}: {code} ({error})"
            ) from error


class _Chunks(io.RawIOBase):
    """Chunks as a file that can be read once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return exactly `size` bytes unless the end is reached: S3 takes no part below 5 MiB but the last."""
        parts = [self._rest]
        missing = size - len(self._rest)
        while size < 0 or missing > 0:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            missing -= len(chunk)
        whole = b"".join(parts)
        cut = len(whole) if size < 0 else size
        self._rest = whole[cut:]
        return whole[:cut]
