"""A loopback server that answers as AWS would, with faults on demand; benchmarks and tests share it.

It runs in a process of its own (see ``server_process``) and does as little work per request as it can: the pages
are rendered once, and the signer's account is inserted with one ``bytes.replace``. The account, region and service
of a call come from its Authorization header, as they do at AWS; the access key identifies the account.

    GET /__stats__    the counts so far           POST /__faults__    a new fault plan (see ``faults.read_plan``)
    POST /__reset__   reset both
"""

import asyncio
import json
import re
import ssl
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

import typer

from benchmarks.answers import (
    CENTRAL_ACCOUNT,
    LAMBDA_PAGE,
    PLACEHOLDER,
    Organization,
    account_id,
    function_configuration,
    functions_page,
    to_json,
)
from benchmarks.faults import FaultPlan, disabled_regions, find_fault, read_plan
from benchmarks.spoiled import spoiled
from simulator.calls import AwsError
from simulator.core import Core
from simulator.http import Front, parsed
from simulator.wire import Answer, Connection, Request

_LIST = re.compile(r"/2015-03-31/functions/?$")
_ONE = re.compile(r"/2015-03-31/functions/(.+)/configuration$")


@dataclass
class Stats:
    """The server's counts. ``signed``: Lambda calls by the signer's "account/region"."""

    connections: int = 0
    requests: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    signed: Counter[str] = field(default_factory=Counter)
    for_another_account: int = 0  # the ARN in the path is not of the account that signed
    unknown_keys: int = 0  # no account's key, or a session token of another key
    bad_signatures: int = 0  # only counted when signatures are checked


class AwsServer(Front):
    """Answers requests; has the organization, the fault plan and the counts.

    Pages of functions are rendered once: a core would hold a million functions. The core answers all else.
    """

    def __init__(self, organization: Organization, regions: list[str], latency: float, check: bool) -> None:
        super().__init__(Core(home=CENTRAL_ACCOUNT), latency)
        self.organization = organization
        self.regions = regions
        self.check_signatures = check
        self._pages: dict[tuple[str, int, int], bytes] = {}
        self._functions: dict[str, Callable[[Request], bytes]] = {
            "ListFunctions": self._page,
            "GetFunctionConfiguration": self._function,
            "ListTags": lambda _request: b'{"Tags":{}}',
        }
        self.reset()

    def reset(self) -> None:
        """Reset every count, session and fault."""
        self.stats = Stats()
        self.core = Core(home=CENTRAL_ACCOUNT)
        self.core.organization.regions = tuple(self.regions)
        for number in range(self.organization.accounts):
            path = f"Unit {number // self.organization.accounts_per_ou}"
            self.core.organization.join(account_id(number), path, name=f"workload-{number}")
        self._set_faults({})

    def connected(self) -> None:
        """Count a connection."""
        self.stats.connections += 1

    def _set_faults(self, plan: FaultPlan) -> None:
        self.plan = plan
        for account in self.core.organization.accounts.values():
            account.disabled_regions = disabled_regions(plan, account.id)

    def control(self, request: Request) -> Answer:
        """The server's own paths."""
        if request.path == "/__faults__":
            self._set_faults(read_plan(json.loads(request.body)))
        elif request.path == "/__reset__":
            self.reset()
        return Answer(json.dumps(vars(self.stats)).encode())

    def answer(self, request: Request) -> Answer:
        """The answer to an AWS call, faults included."""
        self.stats.requests += 1
        trouble = self._credentials_trouble(request)
        if trouble is not None:
            return trouble
        if request.service == "lambda":
            return self._lambda(request)
        try:
            call = parsed(request, "benchmark")
        except AwsError as error:
            return Answer.error(request, error.status, error.code, error.message)
        self.stats.operations[f"{request.service}.{call.operation}"] += 1
        role = call.parameters.get("RoleArn")
        return self._spoiled(
            request, role.split(":")[4] if role else request.account, lambda: self.respond(request, call)
        )

    def _lambda(self, request: Request) -> Answer:
        operation, subject = _lambda_operation(request)
        self.stats.operations[f"lambda.{operation}"] += 1
        self.stats.signed[f"{request.account}/{request.region}"] += 1
        self.stats.for_another_account += subject != request.account
        if operation not in self._functions:
            return Answer.error(request, 404, "UnknownOperationException", f"not known here: {request.path}")
        return self._spoiled(request, subject, lambda: Answer(self._functions[operation](request)))

    def _spoiled(self, request: Request, subject: str, right: Callable[[], Answer]) -> Answer:
        """The right answer, or what the plan has in its place; the plan is by account."""
        fault = find_fault(self.plan, subject, request.region, request.service) if self.plan else None
        if fault is None:
            return right()
        if fault.kind == "wrong_account":
            request.account = PLACEHOLDER
        return spoiled(fault, request, right())

    def _credentials_trouble(self, request: Request) -> Answer | None:
        if not request.key_is_whole():
            self.stats.unknown_keys += 1
            return Answer.unknown_token(request)
        if self.check_signatures and not request.signature_matches():
            self.stats.bad_signatures += 1
            return Answer.error(
                request, 403, "InvalidSignatureException", "The request signature does not match."
            )
        return None

    def _function(self, request: Request) -> bytes:
        name = unquote(request.path).split("/")[3].rpartition(":")[2]
        number = int(name.rsplit("-", 2)[1])
        return to_json(function_configuration(request.region, number, request.account))

    def _page(self, request: Request) -> bytes:
        first = int(request.query_value("Marker") or 0)
        asked = int(request.query_value("MaxItems") or LAMBDA_PAGE)
        total = self.organization.functions
        count = max(0, min(self.organization.page_size, asked, total - first))
        key = (request.region, first, count)
        if key not in self._pages:
            self._pages[key] = functions_page(request.region, first, count, total)
        return self._pages[key].replace(PLACEHOLDER.encode(), request.account.encode())


def _lambda_operation(request: Request) -> tuple[str, str]:
    """The operation's name, and the account that it is about."""
    if _LIST.match(request.path):
        return "ListFunctions", request.account
    one = _ONE.match(unquote(request.path))
    if one:
        parts = one[1].split(":")
        return "GetFunctionConfiguration", parts[4] if len(parts) > 4 else request.account
    return ("ListTags" if request.path.startswith("/2017-03-31/tags/") else "?"), request.account


async def serve(server: AwsServer, tls: ssl.SSLContext | None) -> None:
    """Listen on a free loopback port, print it as a line of JSON, and end when stdin does."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, ssl=tls, backlog=1024)
    print(json.dumps({"port": listening.sockets[0].getsockname()[1]}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main(
    accounts: int = 100,
    functions: int = 25,
    regions: str = "us-east-1,us-west-2",
    page_size: int = LAMBDA_PAGE,
    latency_ms: float = 0,
    check_signatures: bool = False,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM with the key and certificate: serve TLS.")
    ] = None,
) -> None:
    """Serve until stdin ends."""
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    organization = Organization(accounts, functions, page_size)
    server = AwsServer(organization, regions.split(","), latency_ms / 1000, check_signatures)
    asyncio.run(serve(server, tls))


if __name__ == "__main__":
    typer.run(main)
