"""AWS Signature Version 4 by hand: the floor signs with it, the server checks botocore's signatures with it."""

import hmac
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from time import gmtime, strftime

Keys = tuple[str, str, str]  # access key, secret, session token


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


@lru_cache(maxsize=100_000)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key of one day, region and service; the same for every request under it."""
    key = _hmac(f"AWS4{secret}".encode(), day)
    return _hmac(_hmac(_hmac(key, region), service), "aws4_request")


def signature(
    secret: str,
    scope: str,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body_hash: str,
) -> str:
    """The signature of a request.

    scope: "20261124/us-east-1/lambda/aws4_request"; path and query: canonical, as they are signed;
    headers: the signed ones, lower case and in order, ``x-amz-date`` among them; body_hash: SHA-256, hexadecimal.
    """
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{';'.join(headers)}\n{body_hash}"
    digest = sha256(canonical.encode()).hexdigest()
    day, region, service, _ = scope.split("/")
    key = signing_key(secret, day, region, service)
    return _hmac(key, f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{digest}").hex()


def signed_headers(
    keys: Keys,
    scope: tuple[str, str],
    method: str,
    host: str,
    path: str,
    query: str = "",
    body: bytes = b"",
) -> dict[str, str]:
    """The headers that a signed request carries; scope: region and service."""
    access_key, secret, token = keys
    now = strftime("%Y%m%dT%H%M%SZ", gmtime())
    headers = {"host": host, "x-amz-date": now, "x-amz-security-token": token}
    credential = f"{now[:8]}/{scope[0]}/{scope[1]}/aws4_request"
    sealed = signature(secret, credential, method, path, query, headers, sha256(body).hexdigest())
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{credential}, "
        f"SignedHeaders={';'.join(headers)}, Signature={sealed}"
    )
    return headers
