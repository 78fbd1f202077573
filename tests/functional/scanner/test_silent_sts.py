"""An STS endpoint that does not answer: what it costs does not grow with the number of accounts."""

import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import boto3
import pandas as pd
import pytest

from scanner.aws.caller import MAX_ATTEMPTS, Aws
from scanner.aws.credentials import SILENT_IN_A_ROW
from scanner.aws.errors import Unreachable
from scanner.inventory.sweep import Sweep
from scanner.organization.optouts import OptOuts
from scanner.settings import OrganizationSettings, SweepSettings

REGIONS = ("us-east-1", "us-west-2")
WORKERS = 32
XMLNS = "https://sts.amazonaws.com/doc/2011-06-15/"
IDENTITY = (
    f'<GetCallerIdentityResponse xmlns="{XMLNS}"><GetCallerIdentityResult><Arn>arn:aws:iam::999988887777:role/c</Arn>'
    "<Account>999988887777</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)
ASSUMED = f'<AssumeRoleResponse xmlns="{XMLNS}"><AssumeRoleResult/></AssumeRoleResponse>'
DENIED = f'<ErrorResponse xmlns="{XMLNS}"><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>'


class Sts(ThreadingHTTPServer):
    """Answers GetCallerIdentity, refuses AssumeRole for the accounts in `refused`, and is silent to the others.

    broken: AssumeRole succeeds without credentials.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refused: frozenset[str] = frozenset()
        self.broken = False
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Sts

    def do_POST(self) -> None:
        request = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if request["Action"] == ["GetCallerIdentity"]:
            return self._answer(200, IDENTITY)
        account = request["RoleArn"][0].split(":")[4]
        self.server.asked.append(account)
        if account in self.server.refused:
            return self._answer(403, DENIED)
        if self.server.broken:
            return self._answer(200, ASSUMED)
        self.close_connection = True  # silent without the wait for a timeout
        return None

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sts]:
    with Sts() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIA999988887777")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        monkeypatch.setattr("scanner.aws.caller._full_jitter", lambda state: 0.0)
        monkeypatch.setattr("scanner.aws.credentials.SILENT_SECONDS", 0.0)
        yield server
        server.shutdown()


def accounts(count: int) -> list[str]:
    return [f"{100_000_000_000 + number}" for number in range(count)]


def swept(account_ids: list[str], workers: int = WORKERS) -> pd.DataFrame:
    """The ledger of one sweep of these accounts."""
    organization = OrganizationSettings(role_name="Member", regions=REGIONS)
    settings = SweepSettings(workers=workers)
    aws = Aws(boto3.Session(region_name=REGIONS[0]), organization, settings, "20261124T034232Z-1a2b3c")
    listed = pd.DataFrame(
        {
            "account_id": account_ids,
            "account_name": account_ids,
            "state": "ACTIVE",
            "in_scope": True,
            "ou_path": "/",
        }
    )
    return Sweep(aws, organization, settings, ()).run(listed, OptOuts(), date(2026, 11, 24)).units


def test_the_attempts_do_not_grow_with_the_number_of_accounts(sts: Sts) -> None:
    attempts = []
    for count in (20, 60):
        sts.asked.clear()
        units = swept(accounts(count), workers=1)
        assert len(units) == count * len(REGIONS)
        attempts.append(len(sts.asked))
    assert attempts == [SILENT_IN_A_ROW * MAX_ATTEMPTS] * 2


def test_many_workers_ask_once_more_each_at_most(sts: Sts) -> None:
    swept(accounts(200))
    assert len(sts.asked) <= (SILENT_IN_A_ROW + WORKERS) * MAX_ATTEMPTS


def test_the_ledger_says_who_was_not_asked_and_why(sts: Sts) -> None:
    units = swept(accounts(60))
    not_asked = units[units["detail"].str.startswith("STS did not answer")]
    assert set(not_asked["outcome"]) == {"timed_out"}
    assert set(not_asked["detail"].str.contains("not asked any more in this run")) == {True}
    assert set(units["outcome"]) == {"timed_out", "error"}
    assert not units["detail"].str.contains("us-east-1 did not answer").any(), "the region was never asked"
    assert len(not_asked) >= 60 * len(REGIONS) - (SILENT_IN_A_ROW + WORKERS) * len(REGIONS)


def test_an_answer_of_any_kind_begins_the_count_anew(sts: Sts) -> None:
    """Every third account refuses its role; its neighbours get no answer, and all are asked."""
    account_ids = accounts(30)
    sts.refused = frozenset(account_ids[::3])
    units = swept(account_ids, workers=1)
    assert set(sts.asked) == set(account_ids)
    refused = units[units["account_id"].isin(sts.refused)]
    assert set(refused["outcome"]) == {"access_denied"}


@pytest.mark.parametrize(
    ("method", "write"), [("list_functions", False), ("update_function_configuration", True)]
)
def test_without_credentials_nothing_was_sent_and_sts_is_not_asked_again(
    sts: Sts, method: str, write: bool
) -> None:
    sts.broken = True
    organization = OrganizationSettings(role_name="Member", regions=REGIONS)
    session = boto3.Session(region_name=REGIONS[0])
    aws = Aws(session, organization, SweepSettings(), "20261124T034232Z-1a2b3c", writes=True)
    with pytest.raises(Unreachable, match="assume_role: the answer lacks Credentials"):
        aws.call(accounts(1)[0], REGIONS[0], "lambda", method, write=write, FunctionName="f")
    assert len(sts.asked) == MAX_ATTEMPTS
