"""The doctor, over HTTP against a moto server: what it finds, and what it says to do."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from moto.awslambda.models import lambda_backends
from moto.cloudformation.models import cloudformation_backends
from moto.core.exceptions import AccessDeniedError
from moto.organizations.models import OrganizationsBackend
from moto.s3.models import s3_backends
from moto.sns.models import sns_backends
from moto.sns.responses import SNSResponse

from auto_defender.demo.organization import ROLE
from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID
from auto_defender.doctor.environment import clock
from auto_defender.doctor.stack_set import template_digest
from tests.functional.moto_server import Workspace, auto_defender, environment
from tools import member_template
from tools.templates import STACKSETS


class Findings:
    """What the doctor said."""

    def __init__(
        self, server: str, workspace: Workspace, env: Mapping[str, str] | None = None, **sections: Any
    ) -> None:
        env = {**environment(server, AWS_DEFAULT_REGION="us-east-1"), **(env or {})}
        done = auto_defender("doctor", "--config", workspace.configure(**sections), "--json", env=env)
        assert done.stdout, done.stderr[-2000:]
        self.exit_code = done.exit_code
        self.log = done.stderr
        self.all = done.summary["findings"]

    def about(self, what: str) -> list[dict[str, str]]:
        return [finding for finding in self.all if finding["what"].startswith(what)]

    def one(self, what: str) -> dict[str, str]:
        (finding,) = self.about(what)
        return finding

    @property
    def problems(self) -> list[str]:
        return [finding["what"] for finding in self.all if finding["level"] == "problem"]


def member(workspace: Workspace) -> str:
    """The account whose role can be assumed."""
    return next(
        account.id
        for account in workspace.organization.accounts
        if account.id != CENTRAL_ACCOUNT_ID and not account.spec.denies_access and not account.spec.suspended
    )


def refusing(workspace: Workspace) -> str:
    return next(account.id for account in workspace.organization.accounts if account.spec.denies_access)


def test_a_sound_organization_but_for_one_role(server: str, workspace: Workspace) -> None:
    found = Findings(server, workspace)
    assert found.exit_code == 3
    assert found.problems == [f"role in {refusing(workspace)}"]
    assert "check its trust and external id" in found.one(f"role in {refusing(workspace)}")["remedy"]
    assert found.one("roles")["found"] == "1 of 2 can be assumed"
    assert "this is the management account" in found.one("organization")["found"]
    layers = found.about("layer ")
    assert len(layers) == 4  # two families in two regions
    assert {finding["found"] for finding in layers} == {f"account {member(workspace)} can read it"}
    assert found.one("kill switch")["found"] == "off"
    assert found.one("lock")["found"] == "free"
    assert found.one("journals")["found"] == "all closed"
    assert found.one("output")["found"] == f"{workspace.folder / 'out'} can be written"
    assert found.one("rollout")["found"].startswith("dry run")
    assert all(finding["remedy"] for finding in found.all if finding["level"] != "ok")


def test_an_organization_without_fault_has_no_problem(server: str, workspace: Workspace) -> None:
    found = Findings(server, workspace, organization={"exclude_accounts": [refusing(workspace)]})
    assert (found.exit_code, found.problems) == (0, [])


def test_a_layer_that_the_member_account_cannot_have_is_reported(server: str, workspace: Workspace) -> None:
    # The central account has it: only a look from a member account shows that it is not there.
    layer = {"python": f"arn:aws:lambda:{{region}}:{member(workspace)}:layer:twistlock-python:99"}
    found = Findings(server, workspace, defender={"layers": layer})
    reported = found.about("layer ")
    assert {finding["found"] for finding in reported} == {"no such version"}
    assert all("Publish version 99 in this region" in finding["remedy"] for finding in reported)


def test_a_layer_of_one_region_is_reported_for_the_others(server: str, workspace: Workspace) -> None:
    layer = {"python": f"arn:aws:lambda:us-east-1:{member(workspace)}:layer:twistlock-python:4"}
    found = Findings(server, workspace, defender={"layers": layer})
    (wrong,) = [finding for finding in found.about("layer ") if finding["level"] == "problem"]
    assert (wrong["what"].rsplit(" ", 1)[1], wrong["found"]) == ("us-west-2", "it is of us-east-1")
    assert "{region}" in wrong["remedy"]


def test_a_map_of_regions_is_looked_at_region_by_region(server: str, workspace: Workspace) -> None:
    arns = {
        region: f"arn:aws:lambda:{region}:{member(workspace)}:layer:twistlock-python:{version}"
        for region, version in (("us-east-1", 4), ("us-west-2", 99))
    }
    found = Findings(server, workspace, defender={"layers": {"python": arns}})
    assert found.one(f"layer {arns['us-east-1']}")["level"] == "ok"
    assert found.one(f"layer {arns['us-west-2']}")["found"] == "no such version"


def test_a_layer_of_another_architecture_is_reported(server: str, workspace: Workspace) -> None:
    backend = lambda_backends[member(workspace)]["us-east-1"]
    content = {"ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="}
    backend.publish_layer_version(
        {"LayerName": "for-arm", "Content": content, "CompatibleArchitectures": ["arm64"]}
    )
    layer = {"python": f"arn:aws:lambda:{{region}}:{member(workspace)}:layer:for-arm:1"}
    found = Findings(server, workspace, defender={"layers": layer}, organization={"regions": ["us-east-1"]})
    assert found.one("layer ")["found"] == "not built for x86_64"


def test_a_layer_of_another_family_is_reported(server: str, workspace: Workspace) -> None:
    backend = lambda_backends[member(workspace)]["us-east-1"]
    content = {"ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="}
    runtimes = ["nodejs20.x", "nodejs22.x"]
    backend.publish_layer_version({"LayerName": "mine", "Content": content, "CompatibleRuntimes": runtimes})
    arn = f"arn:aws:lambda:{{region}}:{member(workspace)}:layer:mine:1"
    layers = {"python": arn, "nodejs": arn}
    found = Findings(server, workspace, defender={"layers": layers}, organization={"regions": ["us-east-1"]})
    reported = {(finding["level"], finding["found"]) for finding in found.about("layer ")}
    assert reported == {
        ("problem", "for nodejs20.x, nodejs22.x, and not for python"),
        ("ok", f"account {member(workspace)} can read it"),
    }


def test_without_any_member_nobody_can_look_at_the_layers(server: str, workspace: Workspace) -> None:
    found = Findings(server, workspace, organization={"role_name": "NoSuchRole"})
    assert found.one("layers")["level"] == "warning"
    assert len(found.about("role in ")) == 2


def test_what_earlier_runs_left_is_reported(server: str, workspace: Workspace) -> None:
    state = workspace.folder / "out" / "state"
    for folder in ("lock", "open"):
        (state / folder).mkdir(parents=True)
    until = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    holder = {"run_id": "20261124T034232Z-1a2b3c", "host": "h", "pid": 1, "until": until}
    (state / "lock" / "00000001.json").write_text(json.dumps(holder))
    (state / "open" / "20261124T024232Z-4d5e6f.json").write_text("{}")
    (state / "stop").write_text("INC-1234, jane")
    arn = "arn:aws:lambda:us-east-1:111122223333:function:f"
    entry = {"function_arn": arn, "since": "2026-11-24T03:00:00+00:00", "run_id": "r", "reason": "why"}
    (state / "quarantine.json").write_text(json.dumps([entry]))
    found = Findings(server, workspace)
    assert "run 20261124T034232Z-1a2b3c is under way" in found.one("lock")["found"]
    assert "20261124T024232Z-4d5e6f" in found.one("journals")["found"]
    assert found.one("kill switch")["level"] == "warning"
    assert "INC-1234, jane" in found.one("kill switch")["found"]
    assert "Delete it" in found.one("kill switch")["remedy"]
    assert found.one("quarantine")["found"] == "1 functions are left alone"
    holder["until"] = (datetime.now(UTC) - timedelta(minutes=4)).isoformat()
    (state / "lock" / "00000001.json").write_text(json.dumps(holder))
    assert "ended without releasing it" in Findings(server, workspace).one("lock")["found"]


def test_everything_that_is_broken_is_listed_at_once(server: str, workspace: Workspace) -> None:
    out, run_id = workspace.folder / "out", f"{datetime.now(UTC) - timedelta(hours=2):%Y%m%dT%H%M%SZ}-1a2b3c"
    journal = out / "journals" / run_id / "00001.jsonl"
    for path, text in (
        (journal, '{"event": "intent"}\n'),
        (out / "state/quarantine.json", '[{"function_arn": 1}]'),
        (workspace.folder / "optouts.yaml", "optouts: maybe\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def denied(*_: object, **__: object) -> None:
        raise AccessDeniedError("arn:aws:iam::123456789012:root", "organizations:ListAccounts")

    with patch.object(OrganizationsBackend, "list_accounts", denied):
        found = Findings(server, workspace, organization={"regions": ["us-east-1", "us-esat-2"]})
    assert found.problems == ["regions", "opt-outs", "refused entries", "quarantine", "organization"]
    assert found.exit_code == 3
    assert "us-esat-2" in found.one("regions")["found"]
    assert "optouts.yaml, line 1" in found.one("opt-outs")["found"]
    assert f"{journal}: not a segment of a journal" in found.one("refused entries")["found"]
    assert "quarantine.json: functions.0." in found.one("quarantine")["found"]
    assert "allow organizations:List* here" in found.one("organization")["found"]
    assert found.one("lock")["found"] == "free"
    assert all(finding["remedy"] for finding in found.all if finding["level"] != "ok")


def test_without_credentials_the_rest_is_still_examined(server: str, workspace: Workspace) -> None:
    found = Findings(server, workspace, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
    assert (found.exit_code, found.problems) == (3, ["identity"])
    assert "no AWS credentials found" in found.one("identity")["found"]
    assert found.one("opt-outs")["level"] == found.one("quarantine")["level"] == "ok"


def test_nothing_is_written(server: str, workspace: Workspace) -> None:
    Findings(server, workspace)
    assert not (workspace.folder / "out").exists()
    bucket = s3_backends[CENTRAL_ACCOUNT_ID]["aws"].create_bucket("reports-of-the-org", "us-east-1")
    found = Findings(server, workspace, output="s3://reports-of-the-org/coverage")
    assert found.one("output") == {
        "level": "ok",
        "what": "output",
        "found": "s3://reports-of-the-org/coverage can be read; writing is not checked: doctor writes nothing",
        "remedy": "",
    }
    assert not list(bucket.keys)


def test_an_output_that_can_not_be_used_is_reported_and_the_rest_examined(
    server: str, workspace: Workspace
) -> None:
    found = Findings(server, workspace, output="s3://nobody-has-this-bucket/reports")
    assert "NoSuchBucket" in found.one("output")["found"]
    assert {"output", "lock", "journals", "quarantine"} < set(found.problems)
    assert found.one("roles")["found"] == "1 of 2 can be assumed"
    (workspace.folder / "occupied").touch()
    found = Findings(server, workspace, output=str(workspace.folder / "occupied" / "out"))
    assert found.one("output")["found"] == f"{workspace.folder / 'occupied' / 'out'} can't be written"
    assert found.one("roles")["found"] == "1 of 2 can be assumed"


def test_an_internal_error_of_one_examination_is_listed_with_the_others(
    server: str, workspace: Workspace
) -> None:
    topic = sns_backends[CENTRAL_ACCOUNT_ID]["us-east-1"].create_topic("runs")
    answer = "<GetTopicAttributesResponse><GetTopicAttributesResult/></GetTopicAttributesResponse>"
    with patch.object(SNSResponse, "get_topic_attributes", lambda _: answer):
        found = Findings(server, workspace, notifications={"topic_arn": topic.arn})
    assert found.exit_code == 1
    assert found.one("notifications")["found"] == "internal error: KeyError"
    assert "Traceback" in found.log
    assert found.problems == ["notifications", f"role in {refusing(workspace)}"]


def test_a_topic_is_looked_at(server: str, workspace: Workspace) -> None:
    assert Findings(server, workspace).one("notifications")["level"] == "warning"
    topic = sns_backends[CENTRAL_ACCOUNT_ID]["us-east-1"].create_topic("runs")
    found = Findings(server, workspace, notifications={"topic_arn": topic.arn})
    assert found.one("notifications")["found"] == "nobody has subscribed"
    found = Findings(server, workspace, notifications={"topic_arn": f"{topic.arn}-of-nobody"})
    assert found.one("notifications")["level"] == "problem"


def test_the_phase_of_the_rollout_is_reported(server: str, workspace: Workspace) -> None:
    tagged = Findings(server, workspace, rollout={"dry_run": False})
    assert tagged.one("rollout")["found"].startswith("writes where the tag ")
    everywhere = Findings(server, workspace, rollout={"dry_run": False, "require_tag": None})
    assert everywhere.one("rollout")["found"] == "writes to every eligible function"
    assert ROLE in Findings(server, workspace).one(f"role in {refusing(workspace)}")["remedy"]


TEMPLATE = (STACKSETS / member_template.NAME).read_text(encoding="utf-8")
WRITES = {"dry_run": False, "require_tag": {"key": "SecurityScan", "value": "true"}}
STACK_SET = "stack set auto-defender-member"


def deploy_stack_set(*stacks: Mapping[str, str], template: str = TEMPLATE, **parameters: str) -> None:
    """Put a stack set with these stacks into the simulated central account; moto's own know no drift."""
    made = cloudformation_backends[CENTRAL_ACCOUNT_ID]["us-east-1"].create_stack_set(
        "auto-defender-member", template, parameters, {}, "SERVICE_MANAGED", None, None, None
    )
    sound = {"Region": "us-east-1", "Status": "CURRENT", "DriftStatus": "IN_SYNC"}
    made.instances.stack_instances += [
        SimpleNamespace(to_dict=lambda stack=stack: {**sound, **stack}) for stack in stacks
    ]  # type: ignore[arg-type]


def test_member_stacks_as_this_version_wants_them(server: str, workspace: Workspace) -> None:
    deploy_stack_set({"Account": member(workspace)}, RolloutPhase="TagGated")
    found = Findings(server, workspace, rollout=WRITES)
    assert {finding["what"]: finding["level"] for finding in found.all if STACK_SET in finding["what"]} == {
        f"template of {STACK_SET}": "ok",
        f"phase of {STACK_SET}": "ok",
        f"stacks of {STACK_SET}": "ok",
        f"drift of {STACK_SET}": "ok",
    }
    assert found.one("phase of")["found"] == "TagGated"


def test_member_stacks_of_another_version_that_differ_from_the_configuration(
    server: str, workspace: Workspace
) -> None:
    stacks = [{"Account": f"{number:012}", "Status": "OUTDATED"} for number in range(7)]
    stacks += [{"Account": "444455556666", "DriftStatus": "DRIFTED"}]
    older = TEMPLATE.replace("lambda:GetLayerVersion", "lambda:GetLayer*", 1)
    deploy_stack_set(*stacks, template=older, RoleName="Other", TagKey="Protected")
    found = Findings(server, workspace, risk={"utilization": {"memory_from_logs": True}})
    assert found.one("template of")["found"].startswith("not the stacksets/member-role.yaml of version ")
    assert found.one("stacks of")["found"].startswith("7 of 8 are not up to date: 000000000000, ")
    assert found.one("stacks of")["found"].endswith(" and 2 more")
    assert found.one("drift of")["found"] == "1 have drifted: 444455556666"
    assert found.one("RoleName of")["found"] == "'Other', and the configuration requires 'AutoDefenderMember'"
    assert found.one("TagKey of")["level"] == found.one("ReadReportLines of")["level"] == "warning"
    # A dry run writes nothing, so the default phase suits it.
    assert found.one("phase of")["found"] == "DryRun"
    assert all(finding["remedy"] for finding in found.all if finding["level"] != "ok")


@pytest.mark.parametrize(
    ("phase", "rollout", "level"),
    [
        ("DryRun", WRITES, "problem"),
        ("TagGated", {**WRITES, "require_tag": None}, "warning"),
        ("TagGated", {**WRITES, "require_tag": {"key": "SecurityScan", "value": "True"}}, "warning"),
        ("General", {**WRITES, "require_tag": None}, "ok"),
    ],
)
def test_a_phase_that_would_refuse_what_runs_try_is_reported(
    server: str, workspace: Workspace, phase: str, rollout: dict[str, Any], level: str
) -> None:
    deploy_stack_set(RolloutPhase=phase)
    assert Findings(server, workspace, rollout=rollout).one("phase of")["level"] == level


def test_drift_that_nobody_looked_for_is_not_taken_for_none(server: str, workspace: Workspace) -> None:
    deploy_stack_set({"Account": member(workspace), "DriftStatus": "NOT_CHECKED"})
    finding = Findings(server, workspace).one("drift of")
    assert (finding["level"], finding["found"]) == ("warning", "not detected in 1 of 1")
    assert "detect-stack-set-drift --stack-set-name auto-defender-member --call-as SELF" in finding["remedy"]


def test_a_stack_set_of_another_name_is_reported_and_plain_stacks_are_let_be(
    server: str, workspace: Workspace
) -> None:
    reported = Findings(server, workspace).one(STACK_SET)
    assert (reported["level"], reported["found"]) == ("warning", "there is none in us-east-1")
    assert "organization.stack_set" in reported["remedy"]
    plain = Findings(server, workspace, organization={"stack_set": None}).one("stack set")
    assert plain["level"] == "ok"


def test_what_is_compared_with_is_this_version_s_template() -> None:
    noted = json.loads(member_template.TARGET.read_text(encoding="utf-8"))
    assert noted == member_template.document(), (
        "the template has changed: run python -m tools.member_template"
    )


def test_a_comment_makes_no_other_template_and_anything_else_does() -> None:
    commented = TEMPLATE.replace("Resources:\n", "# why\nResources: # what follows\n\n", 1)
    assert commented != TEMPLATE
    assert template_digest(commented) == template_digest(TEMPLATE)
    assert template_digest(TEMPLATE.replace("lambda:ListTags", "lambda:GetFunction", 1)) != template_digest(
        TEMPLATE
    )


@pytest.mark.parametrize(("seconds", "level"), [(0, "ok"), (-20, "ok"), (90, "warning"), (-900, "warning")])
def test_a_clock_that_drifts_is_reported_with_what_depends_on_it(seconds: int, level: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    answer = {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}
    aws = SimpleNamespace(central_account_id="1", home_region="us-east-1", call=lambda *_: answer)
    finding = clock(aws)  # type: ignore[arg-type]
    assert finding.level == level
    assert ("signed with AWS's time" in finding.found) == (level == "warning")
    assert bool(finding.remedy) == (level == "warning")


def test_both_kill_switches_are_read(server: str, workspace: Workspace) -> None:
    stop = workspace.folder / "out/state/stop"
    stop.parent.mkdir(parents=True)
    stop.write_text("incident 7\n")
    found = Findings(server, workspace, rollout={"kill_switch": "ssm:/auto-defender/stop"}).one("kill switch")
    assert "incident 7" in found["found"]
    assert "ssm:/auto-defender/stop could not be read" in found["found"]
    assert "Delete it to go on. Let it be read" in found["remedy"]
