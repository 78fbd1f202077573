"""The command line as a process, over HTTP against a moto server: what a user does in a day."""

import csv
import io
from typing import Any

import pytest
from moto.awslambda.models import lambda_backends
from moto.s3.models import s3_backends

from auto_defender.demo.function_kinds import CURRENT, POLICY, WRAPPER
from auto_defender.demo.functions import SECRET
from auto_defender.demo.organization import Organization
from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID
from scanner.risk.catalogue import CHECKS
from scanner.settings import EXEC_WRAPPER
from tests.functional.moto_server import Workspace, auto_defender, configurations, environment

OURS = "layer:twistlock-"


def state(organization: Organization) -> dict[str, dict[str, object]]:
    return configurations([account.id for account in organization.accounts])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_dry_run_then_the_changes_then_nothing_left_to_do(server: str, workspace: Workspace) -> None:
    config, env = workspace.configure(), environment(server)
    before = state(workspace.organization)

    dry = auto_defender("run", "--config", config, "--json", env=env)
    assert dry.exit_code == 3, dry.stderr[-2000:]  # one account refuses its role
    assert dry.summary["mode"] == "dry_run"
    assert dry.summary["units_by_outcome"] == {"read": 4, "access_denied": 2, "suspended": 2}
    assert state(workspace.organization) == before
    planned = rows(workspace.run_file(dry.summary["run_id"], "changes.csv"))
    assert planned
    assert {change["outcome"] for change in planned} == {"planned"}

    applied = auto_defender("run", "--config", config, "--apply", "--json", env=env)
    assert applied.exit_code == 3, applied.stderr[-2000:]
    changes = rows(workspace.run_file(applied.summary["run_id"], "changes.csv"))
    assert [(c["function_arn"], c["action"]) for c in changes] == [
        (c["function_arn"], c["action"]) for c in planned
    ]
    assert {change["outcome"] for change in changes} == {"changed"}
    after = state(workspace.organization)
    changed = {change["function_arn"] for change in changes}
    for arn, now in after.items():
        if arn in changed:
            assert_protected(before[arn], now)
        else:
            assert now == before[arn]
    assert applied.summary["eligible"] == 0
    assert applied.summary["protected"] == dry.summary["protected"] + len(changed)

    again = auto_defender("run", "--config", config, "--apply", "--json", env=env)
    assert again.exit_code == 3
    assert again.summary["changes_by_outcome"] == {}
    assert state(workspace.organization) == after

    everything = [path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file()]
    everything += [text.encode() for done in (dry, applied, again) for text in (done.stdout, done.stderr)]
    assert not [text for text in everything if SECRET.encode() in text or b"simulated-policy-of-org" in text]


def assert_protected(before: dict[str, object], now: dict[str, object]) -> None:
    """It carries ours, and everything else is as it was, in the same order."""
    arns = [layer["Arn"] for layer in now["Layers"]]
    assert [arn for arn in arns if OURS not in arn] == [
        layer["Arn"] for layer in before["Layers"] if OURS not in layer["Arn"]
    ]
    assert [arn.rsplit(":", 1)[1] for arn in arns if OURS in arn] == ["4"]
    name = now["FunctionName"]
    assert now["Environment"]["Variables"] == {
        **before["Environment"]["Variables"],
        EXEC_WRAPPER: "/opt/twistlock/wrapper",
        "TW_POLICY": f"simulated-policy-of-{name}",
    }
    assert now["Tags"] == {**before["Tags"], "SecurityProtected": "True"}
    same = set(now) - {"Layers", "Environment", "Tags", "RevisionId", "LastModified"}
    assert {key: now[key] for key in same} == {key: before[key] for key in same}


def test_a_scan_into_a_bucket_without_utilization_changes_nothing(server: str, workspace: Workspace) -> None:
    bucket = s3_backends[CENTRAL_ACCOUNT_ID]["aws"].create_bucket("reports-of-the-org", "us-east-1")
    config = workspace.configure(risk={"utilization": {"enabled": False}})
    before = state(workspace.organization)
    done = auto_defender(
        "scan",
        "--config",
        config,
        "--output",
        f"s3://{bucket.name}/coverage",
        env=environment(server),
    )
    assert done.exit_code == 3, done.stderr[-2000:]
    assert "units read     4 of 8" in done.stdout
    assert f"s3://{bucket.name}/coverage/runs/" in done.stdout
    assert {
        "coverage/latest/report.html",
        "coverage/latest/functions.csv",
        "coverage/latest/summary.json",
    } <= set(bucket.keys)
    assert state(workspace.organization) == before
    assert not (workspace.folder / "out").exists()


def test_an_approved_plan_is_made_and_rolled_back(server: str, workspace: Workspace) -> None:
    config, env = workspace.configure(), environment(server)
    before = state(workspace.organization)
    plan = str(workspace.folder / "plan.json")
    planned = auto_defender("plan", "--config", config, "--out", plan, "--json", env=env)
    assert planned.exit_code == 3, planned.stderr[-2000:]
    assert state(workspace.organization) == before

    applied = auto_defender("apply", "--config", config, plan, "--json", env=env)
    assert applied.exit_code == 0, applied.stderr[-2000:]
    arns = {change["function_arn"] for change in planned.summary["changes"]}
    after = state(workspace.organization)
    assert {arn for arn in after if after[arn]["Layers"] != before[arn]["Layers"]} <= arns
    assert applied.summary["changes_by_outcome"] == {"changed": len(arns)}

    back = auto_defender(
        "rollback", "--config", config, "--run", applied.summary["run_id"], "--apply", "--json", env=env
    )
    assert back.exit_code == 4, "values that were replaced can't be put back"
    values_only = {arn for arn in arns if after[arn]["Layers"] == before[arn]["Layers"]} & {
        change["function_arn"]
        for change in planned.summary["changes"]
        if change["before"]["variables"] == change["after"]["variables"]
    }
    assert back.summary["changes_by_outcome"] == {
        "rolled_back": len(arns - values_only),
        "dropped": len(values_only),
    }
    restored = state(workspace.organization)
    assert all(restored[arn] == after[arn] for arn in values_only)
    for arn, was in before.items():
        if arn in values_only:
            continue
        same = set(was) - {"RevisionId", "LastModified"}
        assert {key: restored[arn][key] for key in same} == {key: was[key] for key in same}


def test_explain_shows_every_check_of_a_function(server: str, workspace: Workspace) -> None:
    arn = workspace.organization.quarantined[0]
    done = auto_defender("explain", "--config", workspace.configure(), arn, env=environment(server))
    assert done.exit_code == 0, done.stderr[-2000:]
    assert done.stdout.startswith(f"{arn}\nunprotected, verdict: eligible\n")
    for check in CHECKS:
        assert check.title in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_explain_promises_nothing_that_no_run_would_do(server: str, workspace: Workspace) -> None:
    arn, env = workspace.organization.quarantined[0], environment(server)
    account = arn.split(":")[4]

    def explained(**sections: object) -> str:
        return auto_defender("explain", "--config", workspace.configure(**sections), arn, env=env).stdout

    assert "\nwould protect: " in explained()
    outside = explained(organization={"exclude_accounts": [account]})
    assert "held back, out of scope: organization.exclude_accounts" in outside
    waves = [
        {"name": "pilot", "accounts": [CENTRAL_ACCOUNT_ID if account != CENTRAL_ACCOUNT_ID else "1" * 12]}
    ]
    waits = explained(rollout={"waves": waves})
    assert "held back, it waits for the waves before its own" in waits
    assert "would protect" not in outside + waits


@pytest.mark.parametrize(
    ("old", "new", "reported"),
    [
        ("", "", "is no function ARN"),
        ("-splitter", "-splitter:live", "is no function ARN"),
        ("-splitter", "-spitter", "no such function"),
        ("arn:aws:", "arn:aws-cn:", "these credentials are of the partition 'aws'"),
        ("us-east-1", "us-esat-1", "AWS Lambda has no region 'us-esat-1'"),
        ("ACCOUNT", "999999999999", "could not be read: AssumeRole: AccessDenied"),
    ],
)
def test_what_can_not_be_explained_is_one_clear_line(
    server: str, workspace: Workspace, old: str, new: str, reported: str
) -> None:
    arn = workspace.organization.quarantined[0]
    asked = arn.replace(arn.split(":")[4] if old == "ACCOUNT" else old, new) if old else "orders"
    done = auto_defender("explain", "--config", workspace.configure(), asked, env=environment(server))
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert reported in line


def test_explain_shows_what_each_alias_serves(server: str, workspace: Workspace) -> None:
    arn, env = workspace.organization.quarantined[0], environment(server)
    _, _, _, region, account, _, name = arn.split(":")
    functions = lambda_backends[account][region]
    deployed = functions.get_function(arn)
    ours = {EXEC_WRAPPER: WRAPPER, "TW_POLICY": POLICY.replace("{function_name}", name)}
    functions.publish_version(arn, "before the Defender")
    deployed.update_configuration(
        {
            "Layers": [f"arn:aws:lambda:{region}:{account}:layer:twistlock-{_family(deployed)}:{CURRENT}"],
            "Environment": {"Variables": {**ours, "DB_PASSWORD": SECRET}},
        }
    )
    functions.create_alias("live", name, "1", "", {"AdditionalVersionWeights": {}})
    functions.create_alias("next", name, "$LATEST", "", {})
    config = workspace.configure()

    done = auto_defender("explain", "--config", config, arn, env=env)
    assert done.exit_code == 0, done.stderr[-2000:]
    assert done.stdout.startswith(f"{arn}\nprotected, verdict: protected\n")
    aliases = done.stdout.partition("\nwhere its traffic goes: unprotected\n")[2]
    assert "live serves 1: unprotected\n" in aliases
    assert "next serves $LATEST: protected\n" in aliases
    assert "points the alias" in aliases
    assert SECRET not in done.stdout + done.stderr

    summary = auto_defender("explain", "--config", config, arn, "--json", env=env).summary
    assert summary["effective_coverage"] == {
        "effective_protection": "unprotected",
        "served": "served_unprotected",
        "aliases": "live=1:unprotected;next=$LATEST",
        "snap_start": "None",
        "provisioned_concurrency": 0,
        "served_outcome": "read",
    }
    config = workspace.configure(risk={"effective_coverage": False})
    off = auto_defender("explain", "--config", config, arn, env=env).stdout
    assert "traffic" not in off


def _family(function: Any) -> str:
    return "python" if function.run_time.startswith("python") else "nodejs"


def test_optouts_check_reads_the_file_alone(server: str, workspace: Workspace) -> None:
    done = auto_defender(
        "optouts", "check", "--config", workspace.configure(), "--json", env=environment(server)
    )
    assert done.exit_code == 0, done.stderr[-2000:]
    assert [entry["functions"] for entry in done.summary["optouts"]] == ["*-settlement-*", "payments-*"]
    assert not (workspace.folder / "out").exists()


def test_doctor_names_the_account_that_refuses(server: str, workspace: Workspace) -> None:
    done = auto_defender("doctor", "--config", workspace.configure(), env=environment(server))
    refusing = next(account for account in workspace.organization.accounts if account.spec.denies_access)
    assert done.exit_code == 3, done.stderr[-2000:]
    assert refusing.id in done.stdout


def test_the_log_is_json_lines_with_a_level_for_each_kind_of_news(server: str, workspace: Workspace) -> None:
    done = auto_defender("run", "--config", workspace.configure(), "--apply", env=environment(server))
    levels = {(line["level"], line["logger"].split(".")[0]) for line in done.log}
    assert ("WARNING", "auto_defender") in levels  # a skipped risk
    assert ("ERROR", "scanner") in levels  # the account that refuses
    assert ("INFO", "auto_defender") in levels
    assert len({line["run_id"] for line in done.log}) == 1
