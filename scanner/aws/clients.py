"""One client per (service, region), shared by every account."""

import os
import threading
from typing import Any

import boto3
import botocore.session
from botocore.client import BaseClient
from botocore.config import Config

from scanner.aws.connection_pool import ConnectionPool
from scanner.aws.connections import tls_context
from scanner.aws.transport import Sender

# No such key exists: a call that escapes the sender fails at AWS instead of signing as somebody.
_FAIL_CLOSED = {"aws_access_key_id": "AUTODEFENDERFAILCLOSED", "aws_secret_access_key": "fail-closed"}


class Clients:
    """Makes clients on first use and keeps them; a client costs about 100 ms and 10 MB, a reused one nothing."""

    def __init__(self, session: boto3.Session, user_agent: str) -> None:
        """Take the session that knows the endpoints. Raises BadInput for a CA bundle that can't be read."""
        self._session = session
        self._pool = ConnectionPool(tls_context(_ca_bundle(session)))
        self._clients: dict[tuple[str, str], BaseClient] = {}
        self._lock = threading.Lock()
        # A whole user agent of ours: botocore puts its own together for every request.
        self._config = Config(user_agent=user_agent)

    def get(self, service: str, region: str) -> BaseClient:
        """Return the client of a service in a region."""
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
        events: Any = client.meta.events
        events.register_last("before-call", Sender(events, self._pool))
        return client


def _ca_bundle(session: boto3.Session) -> str | None:
    """Read what the session's profile and environment say (ca_bundle, AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE)."""
    profile = session.profile_name if session.profile_name != "default" else None
    # boto3's session does not expose it; one of botocore's without its handlers, for nothing else is asked of it.
    settings = botocore.session.Session(include_builtin_handlers=False, profile=profile)
    bundle = settings.get_config_variable("ca_bundle")
    return bundle or os.environ.get("REQUESTS_CA_BUNDLE")
