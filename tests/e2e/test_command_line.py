"""The contract of the command line, over accounts whose roles are really enforced."""

import json
from typing import Any

import botocore
import botocore.session
import yaml

from tests.e2e.deployment import EAST, WEST, WRAPPER, Deployment
from tests.e2e.organization import REGIONS, archive
from tools.templates import render


def action(call: str) -> str:
    """Return IAM's name of a call that summary.json counts as service.method."""
    service, method = call.split(".")
    operations = botocore.session.get_session().get_service_model(service).operation_names
    (operation,) = (name for name in operations if botocore.xform_name(name) == method)
    return f"{service.replace('resourcegroupstaggingapi', 'tag')}:{operation}"


def test_a_first_dry_run_reads_everything_and_changes_nothing(deployment: Deployment) -> None:
    account_id = deployment.add_account("payments", "DryRun", "orders")
    deployment.share()
    before = deployment.function(account_id, "orders")["RevisionId"]
    result = deployment.run("run")
    assert result.exit_code == 0, result.stderr
    assert result.summary["mode"] == "dry_run"
    assert (result.summary["units_expected"], result.summary["units_read"]) == (4, 2)
    assert (result.summary["functions"], result.summary["eligible"], result.summary["changed"]) == (1, 1, 0)
    assert [(row["function_name"], row["outcome"]) for row in result.rows("changes.csv")] == [
        ("orders", "planned")
    ]
    assert deployment.function(account_id, "orders")["RevisionId"] == before


def test_in_general_availability_what_is_safe_is_protected_once(deployment: Deployment) -> None:
    organization = deployment.organization
    account_id = deployment.add_account("payments", "General", "orders")
    organization.add_function(account_id, WEST, "invoices")
    organization.add_function(account_id, EAST, "small", MemorySize=128)
    organization.add_function(account_id, EAST, "batch", Timeout=900)
    own = organization.emulator.root(account_id, "lambda").publish_layer_version(
        LayerName="shared-code", Content={"ZipFile": archive("python/shared.py", "")}
    )["LayerVersionArn"]
    organization.add_function(account_id, EAST, "layered", Layers=[own])
    deployment.share()
    untouched = {name: deployment.function(account_id, name)["RevisionId"] for name in ("small", "batch")}

    result = deployment.run("run", "--apply")
    assert result.exit_code == 0, result.stderr
    assert (result.summary["changed"], result.summary["failed"]) == (3, 0)
    for name, region, layers in (("orders", EAST, []), ("invoices", WEST, []), ("layered", EAST, [own])):
        protected = deployment.function(account_id, name, region)
        assert deployment.layers(account_id, name, region) == [*layers, deployment.defender(region)]
        assert protected["Environment"]["Variables"] == {
            "STAGE": "production",
            "AWS_LAMBDA_EXEC_WRAPPER": WRAPPER,
        }
        client = organization.emulator.root(account_id, "lambda", region)
        assert client.list_tags(Resource=protected["FunctionArn"])["Tags"]["SecurityProtected"] == "True"
    assert {name: deployment.function(account_id, name)["RevisionId"] for name in untouched} == untouched
    reasons = {row["function_name"]: row["reasons"] for row in result.rows("functions.csv")}
    assert (reasons["small"], reasons["batch"]) == ("memory", "timeout")

    after = deployment.function(account_id, "orders")["RevisionId"]
    again = deployment.run("run", "--apply")
    assert again.exit_code == 0, again.stderr
    assert (again.summary["changed"], again.summary["protected"]) == (0, 3)
    assert again.rows("changes.csv") == []
    assert deployment.function(account_id, "orders")["RevisionId"] == after


def test_an_account_without_the_role_is_shown_and_makes_the_run_incomplete(deployment: Deployment) -> None:
    seen = deployment.add_account("payments", "DryRun", "orders")
    unseen = deployment.add_account("newcomer", None, "unknown")
    deployment.share()
    result = deployment.run("run")
    assert result.exit_code == 3, result.stderr
    assert (result.summary["units_expected"], result.summary["units_read"]) == (6, 2)
    outcomes = {(row["account_id"], row["region"]): row["outcome"] for row in result.rows("units.csv")}
    assert outcomes == {
        **{(deployment.organization.central, region): "opted_out" for region in REGIONS},
        **{(seen, region): "read" for region in REGIONS},
        **{(unseen, region): "access_denied" for region in REGIONS},
    }
    assert {row["account_id"] for row in result.rows("functions.csv")} == {seen}


def test_without_the_external_id_no_account_is_read(deployment: Deployment) -> None:
    deployment.add_account("payments", "General", "orders")
    deployment.share()
    result = deployment.run("run", "--apply", organization={"external_id": None})
    assert result.exit_code == 3, result.stderr
    assert (result.summary["units_read"], result.summary["changed"]) == (0, 0)
    assert {row["outcome"] for row in result.rows("units.csv")} == {"access_denied", "opted_out"}


def test_an_account_still_in_dry_run_refuses_writes_and_the_run_says_so(deployment: Deployment) -> None:
    account_id = deployment.add_account("payments", "DryRun", "orders")
    deployment.share()
    before = deployment.function(account_id, "orders")["RevisionId"]
    result = deployment.run("run", "--apply")
    assert result.exit_code == 4, result.stderr
    assert (result.summary["changed"], result.summary["failed"]) == (0, 1)
    (change,) = result.rows("changes.csv")
    assert (change["function_name"], change["outcome"]) == ("orders", "failed")
    assert "lambda:UpdateFunctionConfiguration" in change["detail"]
    assert deployment.function(account_id, "orders")["RevisionId"] == before


def test_the_highest_exit_code_is_reported_and_the_rest_is_protected_all_the_same(
    deployment: Deployment,
) -> None:
    open_account = deployment.add_account("payments", "General", "orders")
    deployment.add_account("frozen", "DryRun", "ledger")
    deployment.add_account("newcomer", None)
    deployment.share()
    result = deployment.run("run", "--apply")
    assert result.exit_code == 4, result.stderr
    assert (result.summary["changed"], result.summary["failed"]) == (1, 1)
    assert (result.summary["units_expected"], result.summary["units_read"]) == (8, 4)
    assert deployment.layers(open_account, "orders") == [deployment.defender()]


def test_in_the_tag_gated_phase_the_tagged_functions_are_protected(deployment: Deployment) -> None:
    account_id = deployment.add_account("payments", "TagGated", "orders")
    deployment.organization.add_function(account_id, EAST, "pilot", Tags={"SecurityScan": "true"})
    deployment.share()
    result = deployment.run(
        "run", "--apply", rollout={"require_tag": {"key": "SecurityScan", "value": "true"}}
    )
    assert result.exit_code == 0, result.stderr
    assert deployment.layers(account_id, "pilot") == [deployment.defender()]
    assert deployment.layers(account_id, "orders") == []
    reasons = {row["function_name"]: row["reasons"] for row in result.rows("functions.csv")}
    assert reasons == {"pilot": "", "orders": "tag_required"}


def test_the_gate_holds_even_where_the_configuration_forgets_it(deployment: Deployment) -> None:
    account_id = deployment.add_account("payments", "TagGated", "orders")
    deployment.organization.add_function(account_id, EAST, "pilot", Tags={"SecurityScan": "true"})
    deployment.share()
    result = deployment.run("run", "--apply")
    assert result.exit_code == 4, result.stderr
    assert {row["function_name"]: row["outcome"] for row in result.rows("changes.csv")} == {
        "pilot": "changed",
        "orders": "failed",
    }
    assert deployment.layers(account_id, "orders") == []


def test_what_was_opted_out_is_left_alone(deployment: Deployment) -> None:
    account_id = deployment.add_account("payments", "General", "orders", "billing-invoice")
    whole = deployment.add_account("legacy", "General", "mainframe")
    deployment.share()
    entry = {"reason": "CHG-4711", "owner": "payments@example.com", "expires": "2099-12-31"}
    optouts = deployment.folder / "optouts.yaml"
    optouts.write_text(
        yaml.safe_dump(
            {
                "optouts": [
                    {"account": account_id, "functions": ["billing-*"], **entry},
                    {"account": whole, **entry},
                ]
            }
        ).replace("'2099-12-31'", "2099-12-31")
    )
    deployment.optouts = str(optouts)
    result = deployment.run("run", "--apply")
    assert result.exit_code == 0, result.stderr
    assert deployment.layers(account_id, "orders") == [deployment.defender()]
    assert deployment.layers(account_id, "billing-invoice") == []
    assert deployment.layers(whole, "mainframe") == []
    outcomes = {row["account_id"]: row["outcome"] for row in result.rows("units.csv")}
    assert (outcomes[account_id], outcomes[whole]) == ("read", "opted_out")


def test_a_missing_opt_out_file_stops_every_write(deployment: Deployment) -> None:
    account_id = deployment.add_account("payments", "General", "orders")
    deployment.share()
    deployment.optouts = str(deployment.folder / "no-such-file.yaml")
    result = deployment.run("run", "--apply")
    assert result.exit_code == 2
    assert "no-such-file.yaml" in result.stderr
    assert deployment.layers(account_id, "orders") == []


def test_an_approved_plan_is_applied_and_nothing_else(deployment: Deployment) -> None:
    account_id = deployment.add_account("payments", "General", "orders")
    deployment.share()
    plan = deployment.folder / "PLAN.json"
    planned = deployment.run("plan", "--out", str(plan))
    assert planned.exit_code == 0, planned.stderr
    assert deployment.layers(account_id, "orders") == []
    deployment.organization.add_function(account_id, EAST, "deployed-since")
    applied = deployment.run("apply", str(plan))
    assert applied.exit_code == 0, applied.stderr
    assert deployment.layers(account_id, "orders") == [deployment.defender()]
    assert deployment.layers(account_id, "deployed-since") == []


def test_rollback_removes_what_a_run_added_and_keeps_the_rest(deployment: Deployment) -> None:
    account_id = deployment.add_account("payments", "General", "orders")
    own = deployment.organization.emulator.root(account_id, "lambda").publish_layer_version(
        LayerName="shared-code", Content={"ZipFile": archive("python/shared.py", "")}
    )["LayerVersionArn"]
    deployment.organization.add_function(account_id, EAST, "layered", Layers=[own])
    deployment.share()
    applied = deployment.run("run", "--apply")
    assert applied.exit_code == 0, applied.stderr
    result = deployment.run("rollback", "--run", applied.summary["run_id"], "--apply")
    assert result.exit_code == 0, result.stderr
    for name, layers in (("orders", []), ("layered", [own])):
        assert deployment.layers(account_id, name) == layers
        assert deployment.function(account_id, name)["Environment"]["Variables"] == {"STAGE": "production"}


def test_reports_go_to_the_report_bucket_of_the_central_stack(deployment: Deployment) -> None:
    deployment.add_account("payments", "General", "orders")
    deployment.share()
    central = deployment.organization
    stack = central.emulator.root(central.central, "cloudformation").describe_stacks(StackName="central")[
        "Stacks"
    ][0]
    (bucket,) = (o["OutputValue"] for o in stack["Outputs"] if o["OutputKey"] == "ReportBucket")
    first, result = (deployment.run("run", "--apply", "--output", f"s3://{bucket}") for _ in range(2))
    # The second run took the lock again and replaced latest/.
    assert (first.exit_code, result.exit_code) == (0, 0), first.stderr + result.stderr
    s3 = central.client("s3", central.as_central())
    keys = {item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert {"latest/summary.json", "latest/report.html", "latest/functions.csv"} <= keys
    assert (
        json.loads(s3.get_object(Bucket=bucket, Key="latest/summary.json")["Body"].read()) == result.summary
    )


def test_the_member_role_is_given_what_the_program_calls_and_nothing_else(deployment: Deployment) -> None:
    organization = deployment.organization
    account_id = organization.add_account("payments")
    organization.deploy_member(account_id, "General")
    organization.add_function(account_id, EAST, "orders", Tags={"SecurityScan": "true"})
    deployment.share()
    sections: dict[str, dict[str, Any]] = {
        "organization": {"regions": "enabled"},
        "risk": {"effective_coverage": True},
        "rollout": {"require_tag": {"key": "SecurityScan", "value": "true"}},
    }
    shown = deployment.run("run", **sections)
    assert shown.exit_code == 0, shown.stderr
    assert shown.summary["units_read"] > len(REGIONS)
    applied = deployment.run("run", "--apply", **sections)
    assert applied.exit_code == 0, applied.stderr
    rolled_back = deployment.run("rollback", "--run", applied.summary["run_id"], "--apply", **sections)
    assert rolled_back.exit_code == 0, rolled_back.stderr

    called = {name for result in (shown, applied, rolled_back) for name in result.summary["calls"]}
    actions = {action(name) for name in called if not name.startswith(("sts.", "organizations."))}
    document = render("member-role.yaml", account_id, **organization.member_parameters("General"))
    statements = document["Permissions"]["Properties"]["PolicyDocument"]["Statement"]
    given = {
        allowed
        for statement in statements
        if statement["Effect"] == "Allow"
        for allowed in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    }
    # For regions that know no token of ours; the emulator has none.
    not_here = {"account:GetRegionOptStatus", "ec2:DescribeRegions"}
    assert actions == given - not_here


def test_doctor_looks_at_everything_with_the_central_role_s_permissions(deployment: Deployment) -> None:
    account_id = deployment.add_account("payments", "DryRun")
    deployment.share()
    layers = {"python": {EAST: deployment.defender(EAST)}}
    result = deployment.run("doctor", organization={"regions": "enabled"}, defender={"layers": layers})
    found = {finding["what"]: finding for finding in result.summary["findings"]}
    assert [finding for finding in found.values() if finding["level"] == "problem"] == []
    assert result.exit_code == 0, result.stderr
    assert found["roles"]["found"] == "1 of 1 can be assumed"
    assert (
        found[f"layer {deployment.defender(EAST)} in {EAST}"]["found"] == f"account {account_id} can read it"
    )
    # Functions of a region without a layer would be skipped, and that is reported.
    assert found[f"layer for python in {WEST}"]["level"] == "warning"
