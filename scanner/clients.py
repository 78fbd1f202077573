"""One client per (service, region), shared by every account."""

import threading
from typing import Any

import boto3
import orjson
from botocore.client import BaseClient
from botocore.config import Config

from scanner.credentials import sign_as_current_account

# No such key exists: a call that escapes the hook fails at AWS instead of signing as somebody.
_FAIL_CLOSED = {"aws_access_key_id": "AUTODEFENDERFAILCLOSED", "aws_secret_access_key": "fail-closed"}


class Clients:
    """Makes clients on first use and keeps them; a client costs about 100 ms and 10 MB, a reused one nothing."""

    def __init__(self, session: boto3.Session, workers: int, user_agent: str) -> None:
        """Take the session that knows endpoints and proxies, and the number of connections a client keeps."""
        self._session = session
        self._clients: dict[tuple[str, str], BaseClient] = {}
        self._lock = threading.Lock()
        self._config = Config(
            # Retry state lives in the client: with retries of its own, one throttled account would starve the others.
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=workers,
            connect_timeout=5,
            read_timeout=30,
            tcp_keepalive=True,
            # A whole one of ours: botocore puts its own together anew, twice, for every request.
            user_agent=user_agent,
        )

    def get(self, service: str, region: str) -> BaseClient:
        """Give the client of a service in a region."""
        client = self._clients.get((service, region))
        if client is not None:
            return client
        with self._lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._made(service, region)
            return self._clients[service, region]

    def _made(self, service: str, region: str) -> BaseClient:
        client: BaseClient = self._session.client(  # type: ignore[call-overload]
            service, region_name=region, config=self._config, **_FAIL_CLOSED
        )
        client.meta.events.register("before-sign", sign_as_current_account)
        client.meta.events.register("before-parse.lambda.ListFunctions", parse_page)
        return client


def parse_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Parse a page of functions with orjson in place of botocore's parser: a handler of before-parse.

    botocore walks the service model for every field; a page is a tenth of the work without that (measured by
    benchmarks/parsing.py). FunctionConfiguration has no timestamps or blobs, so plain JSON is what botocore would give.
    Errors (300 and above) are left to botocore. A body that is no JSON object gives no Functions, which the caller
    takes for a broken answer.
    """
    if response_dict["status_code"] >= 300:
        return
    try:
        page = orjson.loads(response_dict["body"])
    except orjson.JSONDecodeError:
        page = None
    if isinstance(page, dict):
        customized_response_dict.update(page)
    response_dict["body"] = b"{}"
