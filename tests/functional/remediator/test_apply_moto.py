"""The real client against moto, which knows no revisions and answers at once: the plainest emulator there is."""

import io
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import boto3
from pydantic import SecretStr

from remediator.execution.apply import ApplyResult, apply_plan
from remediator.execution.rollback import rollback
from remediator.journal.journals import Journals
from remediator.journal.selection import Selection, select
from remediator.plan.plan import make_plan
from remediator.rollout.lock import RunLock
from remediator.settings import RolloutSettings
from scanner.aws.caller import Aws
from scanner.inventory.functions_frame import frame_of
from scanner.risk.engine import assess_risk
from scanner.risk.rules import Rules
from scanner.settings import DefenderSettings, OrganizationSettings, RiskSettings, SweepSettings
from storage.folder import FolderStore
from tests.unit.remediator.harness import RUN

# The account that moto gives to every key it did not hand out itself.
ACCOUNT, REGION = "123456789012", "us-east-1"
DEFENDER = DefenderSettings(
    layers={"python": "arn:aws:lambda:{region}:{account_id}:layer:twistlock-python:1"},
    wrapper="/opt/twistlock/wrapper",
    environment={"TW_POLICY": SecretStr("s3cret for {function_name}")},
)
RULES = Rules("aws", RiskSettings(), DEFENDER)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("app.py", "")
    return buffer.getvalue()


def organization_in(moto_session: boto3.Session) -> Aws:
    role = moto_session.client("iam").create_role(RoleName="f", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client = moto_session.client("lambda")
    for name in ("twistlock-python", "shared"):
        client.publish_layer_version(LayerName=name, Content={"ZipFile": archive()})
    shared = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:shared:1"
    for name in ("orders", "payments"):
        client.create_function(
            FunctionName=name, Runtime="python3.12", Role=role, Handler="app.handler", Code={"ZipFile": archive()},
            MemorySize=512, Layers=[shared], Environment={"Variables": {"STAGE": "prod"}},
        )  # fmt: skip
    settings = OrganizationSettings(role_name="Member", regions=(REGION,))
    return Aws(moto_session, settings, SweepSettings(), RUN, writes=True)


def apply(aws: Aws, folder: Path, run_id: str = RUN) -> ApplyResult:
    found = aws.call(ACCOUNT, REGION, "lambda", "list_functions")["Functions"]
    functions = frame_of(found, "aws", ACCOUNT, REGION, DEFENDER.watched_variables)
    assessed = assess_risk(functions, RULES, date(2026, 11, 24))
    rollout = RolloutSettings(dry_run=False, quiet_minutes=0)
    plan = make_plan(
        assessed, DEFENDER, rollout, run_id=run_id, now=datetime.now(UTC), partition="aws", config_digest="x"
    )
    store = FolderStore(folder)
    with RunLock(store, run_id) as lock:
        journals = Journals(store, DEFENDER)
        return apply_plan(
            plan, aws, RULES, rollout, journals=journals, lock=lock, run_id=run_id, release="r", approved=True
        )


def test_protected_once_and_rolled_back_exactly(moto_session: boto3.Session, tmp_path: Path) -> None:
    aws = organization_in(moto_session)
    client = moto_session.client("lambda")
    before = {name: client.get_function_configuration(FunctionName=name) for name in ("orders", "payments")}
    assert apply(aws, tmp_path).changes["outcome"].tolist() == ["changed", "changed"]
    for name in before:
        now = client.get_function_configuration(FunctionName=name)
        assert [layer["Arn"].split(":")[-2] for layer in now["Layers"]] == ["shared", "twistlock-python"]
        assert now["Environment"]["Variables"] == {
            "STAGE": "prod",
            "AWS_LAMBDA_EXEC_WRAPPER": "/opt/twistlock/wrapper",
            "TW_POLICY": f"s3cret for {name}",
        }
        assert client.list_tags(Resource=now["FunctionArn"])["Tags"] == {"SecurityProtected": "True"}
    assert apply(aws, tmp_path, "20261124T044232Z-second").changes.empty

    store, run_id = FolderStore(tmp_path), "20261125T000000Z-back"
    with RunLock(store, run_id) as lock:
        journals = Journals(store, DEFENDER)
        undos = select(journals, Selection(runs=[RUN]))
        undone = rollback(undos, aws, DEFENDER, journals=journals, run_id=run_id, lock=lock)
    assert undone.changes["outcome"].tolist() == ["rolled_back", "rolled_back"]
    for name, was in before.items():
        now = client.get_function_configuration(FunctionName=name)
        assert now["Layers"] == was["Layers"]
        assert now["Environment"] == was["Environment"]
        assert client.list_tags(Resource=now["FunctionArn"])["Tags"] == {}
    written = "\n".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "s3cret" not in written
