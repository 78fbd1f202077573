"""The store below s3://bucket/prefix: encrypted, checksummed, never public, conditional where it must be."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from scanner.core.errors import BadInput
from storage.protocol import StoreFailed, checked

# Standard mode retries throttling, 5xx and connection faults with exponential back-off and jitter.
# Links are signed with Signature Version 4: S3 takes no other for objects under a KMS key.
_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 6},
    connect_timeout=5,
    read_timeout=60,
    signature_version="s3v4",
)
# The tag of files that may expire: all of a run's but its journal, which a rollback needs. A lifecycle rule can only
# distinguish files of one folder by tag (stacksets/central.yaml).
EXPIRES = ("expires", "true")
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
        self._journals: dict[str, _Journal] = {}
        self._opening = threading.Lock()

    @classmethod
    def at(
        cls, url: str, session: boto3.Session, *, bucket_owner: str | None, kms_key_id: str | None
    ) -> "S3Store":
        """Open `s3://bucket/prefix` with a boto3 Session."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise BadInput(f"output: '{url}' names no bucket; expected s3://bucket/prefix")
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

    def write(self, path: str, body: bytes, content_type: str) -> None:
        """Put one object."""
        with self._store_errors("write", path):
            self._put(path, body, content_type)

    def upload(self, path: str, source: Path, content_type: str) -> None:
        """Put one object from a file, in parts if it is large, tagged as one that may expire."""
        extra = {
            **self._encryption,
            "ContentType": content_type,
            "ChecksumAlgorithm": "SHA256",
            "Tagging": "=".join(EXPIRES),
        }
        if self._owner:
            extra["ExpectedBucketOwner"] = self._owner
        with self._store_errors("upload", path):
            self._s3.upload_file(
                str(source),
                self._bucket,
                self._key(path),
                ExtraArgs=extra,
                Config=TransferConfig(max_concurrency=4),
            )

    def read(self, path: str) -> bytes | None:
        """Get one object."""
        with self._store_errors("read", path):
            try:
                body: bytes = self._s3.get_object(**self._bucket_parameters, Key=self._key(path))[
                    "Body"
                ].read()
            except ClientError as error:
                if error.response["Error"]["Code"] in _ABSENT:
                    return None
                raise
            return body

    def append(self, path: str, line: bytes) -> None:
        """Append a line to an object: S3 can't append, so the object is written again, with all waiting lines at once."""
        with self._opening:
            journal = self._journals.get(path)
            if journal is None:
                journal = _Journal(self.read(path) or b"", lambda body: self._append_all(path, body))
                self._journals[path] = journal
        journal.append(line)

    def create_exclusive(self, path: str, body: bytes) -> bool:
        """Put with If-None-Match. After a lost answer the retry fails on our own object, so its content is compared."""
        with self._store_errors("create", path):
            try:
                self._put(path, body, "application/json", IfNoneMatch="*")
            except ClientError as error:
                if error.response["Error"]["Code"] not in _TAKEN:
                    raise
                return self.read(path) == body
            return True

    def delete(self, path: str) -> None:
        """Delete one object."""
        with self._store_errors("delete", path):
            self._s3.delete_object(**self._bucket_parameters, Key=self._key(path))

    def list(self, prefix: str) -> list[str]:
        """List all objects, page by page."""
        with self._store_errors("list", prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                **self._bucket_parameters, Prefix=self._prefix + prefix
            )
            keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return sorted(key.removeprefix(self._prefix) for key in keys)

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

    def _put(self, path: str, body: bytes, content_type: str, **condition: str) -> None:
        self._s3.put_object(
            **self._bucket_parameters,
            **self._encryption,
            **condition,
            Key=self._key(path),
            Body=body,
            ContentType=content_type,
            ChecksumAlgorithm="SHA256",
        )

    def _append_all(self, path: str, body: bytes) -> None:
        self.write(path, body, "application/x-ndjson")

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


class _Journal:
    """An object to which lines are appended. Lines that arrive during a PUT share the next one (group commit)."""

    def __init__(self, body: bytes, put: Callable[[bytes], None]) -> None:
        self._body = body
        self._put = put
        self._waiting = threading.Condition()
        self._added = 0
        self._durable = 0
        self._busy = False

    def append(self, line: bytes) -> None:
        with self._waiting:
            self._body += line.rstrip(b"\n") + b"\n"
            self._added += 1
            mine = self._added
            while self._durable < mine:
                if self._busy:
                    self._waiting.wait()
                else:
                    self._commit()

    def _commit(self) -> None:
        """Put all lines so far, with the lock released meanwhile. After a failure each waiting caller tries again."""
        body, upto = self._body, self._added
        self._busy = True
        self._waiting.release()
        try:
            self._put(body)
        finally:
            self._waiting.acquire()
            self._busy = False
            self._waiting.notify_all()
        self._durable = max(self._durable, upto)
