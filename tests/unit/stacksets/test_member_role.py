"""The member role's policy, evaluated. An emulator enforces the rest (tests/e2e); lambda:Layer none does."""

import json
from typing import Any

import botocore.session
import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.unit.stacksets.policy import decision
from tools.templates import CENTRAL, MEMBER, render

FUNCTION = f"arn:aws:lambda:us-east-1:{MEMBER}:function:orders"
OURS = f"arn:aws:lambda:us-east-1:{CENTRAL}:layer:twistlock-python:4"
OWN = f"arn:aws:lambda:us-east-1:{MEMBER}:layer:shared-code:7"
INSIGHTS = "arn:aws:lambda:us-east-1:580247275435:layer:LambdaInsightsExtension:53"
STRANGER = "arn:aws:lambda:us-east-1:999999999999:layer:evil:1"
GIVEN = {
    "CentralAccountId": CENTRAL,
    "OrganizationId": "o-a1b2c3d4e5",
    "DefenderLayers": f"arn:aws:lambda:*:{CENTRAL}:layer:twistlock-*:*",
}


def deploy(account_id: str = MEMBER, **parameters: str) -> dict[str, Any]:
    return render("member-role.yaml", account_id, **{**GIVEN, **parameters})


def permissions(phase: str, **parameters: str) -> dict[str, Any]:
    """Return the policy of a member account in a phase."""
    document: dict[str, Any] = deploy(RolloutPhase=phase, **parameters)["Permissions"]["Properties"][
        "PolicyDocument"
    ]
    return document


def update(policy: dict[str, Any], layers: list[str], tags: dict[str, str] | None = None) -> str:
    """Decide on UpdateFunctionConfiguration with these layers; a request with none has no key lambda:Layer."""
    context: dict[str, Any] = {f"aws:ResourceTag/{key}": value for key, value in (tags or {}).items()}
    if layers:
        context["lambda:Layer"] = layers
    return decision(policy, "lambda:UpdateFunctionConfiguration", FUNCTION, context)


@pytest.mark.parametrize(
    "layers", [[OURS], [OWN, OURS], [INSIGHTS, OURS], [OWN], [INSIGHTS], [OWN, INSIGHTS], []]
)
def test_our_layer_may_be_attached_and_detached_beside_those_that_stay(layers: list[str]) -> None:
    policy = permissions("General")
    assert update(policy, layers) == "Allow"


@pytest.mark.parametrize("phase", ["DryRun", "TagGated", "General"])
@pytest.mark.parametrize("layers", [[STRANGER], [OURS, STRANGER], [STRANGER, OWN, INSIGHTS]])
def test_a_strangers_layer_never_comes_in(phase: str, layers: list[str]) -> None:
    policy = permissions(phase)
    assert update(policy, layers, {"SecurityScan": "true"}) == "ImplicitDeny"


@given(st.lists(st.sampled_from([OURS, OWN, INSIGHTS, STRANGER]), max_size=4), st.integers(0, 4))
def test_what_may_be_protected_may_be_rolled_back(kept: list[str], place: int) -> None:
    policy = permissions("General")
    if update(policy, [*kept[:place], OURS, *kept[place:]]) == "Allow":
        assert update(policy, kept) == "Allow"


def test_layers_of_other_accounts_can_be_let_stay() -> None:
    vendor = "arn:aws:lambda:us-east-1:464622532012:layer:Datadog-Python311:99"
    others = f"{INSIGHTS.rsplit(':', 1)[0]}:*,arn:aws:lambda:*:464622532012:layer:Datadog-*:*"
    policy = permissions("General", OtherLayers=others)
    assert update(policy, [vendor, INSIGHTS, OURS]) == "Allow"
    assert update(policy, [vendor, INSIGHTS]) == "Allow"
    assert update(policy, [vendor, STRANGER, OURS]) == "ImplicitDeny"


@pytest.mark.parametrize("layer", [OURS, OWN, INSIGHTS])
@pytest.mark.parametrize("phase", ["TagGated", "General"])
def test_every_layer_that_an_update_may_name_may_be_read(phase: str, layer: str) -> None:
    policy = permissions(phase)
    assert decision(policy, "lambda:GetLayerVersion", layer) == "Allow"
    assert decision(policy, "lambda:GetLayerVersion", STRANGER) == "ImplicitDeny"


def test_a_dry_run_reads_our_layer_alone() -> None:
    assert decision(permissions("DryRun"), "lambda:GetLayerVersion", OURS) == "Allow"
    assert decision(permissions("DryRun"), "lambda:GetLayerVersion", OWN) == "ImplicitDeny"


@pytest.mark.parametrize(
    ("phase", "tags", "expected"),
    [
        ("DryRun", {"SecurityScan": "true"}, "ImplicitDeny"),
        ("TagGated", {}, "ImplicitDeny"),
        ("TagGated", {"SecurityScan": "false"}, "ImplicitDeny"),
        ("TagGated", {"SecurityScan": "True"}, "ImplicitDeny"),
        ("TagGated", {"SecurityScan": "true"}, "Allow"),
        ("General", {}, "Allow"),
    ],
)
def test_a_phase_decides_which_functions_may_be_changed(
    phase: str, tags: dict[str, str], expected: str
) -> None:
    policy = permissions(phase)
    context = {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
    assert update(policy, [OURS], tags) == expected
    for action in ("lambda:TagResource", "lambda:UntagResource"):
        assert (
            decision(policy, action, FUNCTION, {**context, "aws:TagKeys": ["SecurityProtected"]}) == expected
        )
        for keys in (["SecurityScan"], ["SecurityProtected", "SecurityScan"]):
            assert decision(policy, action, FUNCTION, {**context, "aws:TagKeys": keys}) == "ImplicitDeny"


def test_functions_of_another_account_are_out_of_reach() -> None:
    policy = permissions("General")
    foreign = FUNCTION.replace(MEMBER, "999999999999")
    assert (
        decision(policy, "lambda:UpdateFunctionConfiguration", foreign, {"lambda:Layer": [OURS]})
        == "ImplicitDeny"
    )


LOGS = f"arn:aws:logs:us-east-1:{MEMBER}:log-group:"


@pytest.mark.parametrize("phase", ["DryRun", "TagGated", "General"])
def test_logs_are_queried_only_where_that_is_asked_for_and_only_those_of_functions(phase: str) -> None:
    asked, plain = permissions(phase, ReadReportLines="true"), permissions(phase)
    for group in ("/aws/lambda/orders", "/aws/lambda/orders:*"):
        assert decision(asked, "logs:StartQuery", LOGS + group) == "Allow"
        assert decision(plain, "logs:StartQuery", LOGS + group) == "ImplicitDeny"
    assert decision(asked, "logs:GetQueryResults", "*") == "Allow"
    assert decision(plain, "logs:GetQueryResults", "*") == "ImplicitDeny"
    for other in ("/aws/rds/cluster", "audit"):
        assert decision(asked, "logs:StartQuery", LOGS + other) == "ImplicitDeny"
    foreign = LOGS.replace(MEMBER, "999999999999")
    assert decision(asked, "logs:StartQuery", f"{foreign}/aws/lambda/orders") == "ImplicitDeny"


@pytest.mark.parametrize("action", ["lambda:ListAliases", "lambda:ListProvisionedConcurrencyConfigs"])
def test_what_aliases_serve_may_be_read_and_nothing_of_it_changed(action: str) -> None:
    for phase in ("DryRun", "TagGated", "General"):
        assert decision(permissions(phase), action, FUNCTION) == "Allow"
        for never in ("UpdateAlias", "CreateAlias", "PublishVersion", "PutProvisionedConcurrencyConfig"):
            assert decision(permissions(phase), f"lambda:{never}", FUNCTION) == "Deny"


def test_code_is_denied_explicitly_for_every_lambda_write_but_ours() -> None:
    policy = permissions("General")
    operations = set(botocore.session.get_session().get_service_model("lambda").operation_names)
    ours = {"UpdateFunctionConfiguration", "TagResource", "UntagResource"}
    reads = {name for name in operations if name.startswith(("Get", "List"))}
    # Those of durable executions and capacity providers act on work that the owner started.
    others = {name for name in operations if "Durable" in name or "CapacityProvider" in name}
    # IAM has one action for every way to invoke.
    renamed = {"Invoke": "InvokeFunction", "InvokeWithResponseStream": "InvokeFunction"}
    for name in operations - ours - reads - others:
        assert decision(policy, f"lambda:{renamed.get(name, name)}", FUNCTION) == "Deny", name
    for name in others:
        assert decision(policy, f"lambda:{name}", FUNCTION) != "Allow", name
    assert decision(policy, "lambda:GetFunction", FUNCTION) == "ImplicitDeny"
    assert decision(policy, "iam:PassRole", f"arn:aws:iam::{MEMBER}:role/administrator") == "Deny"


def test_the_central_role_alone_is_trusted() -> None:
    role = deploy(ExternalId="secret-word", CentralRoleName="Auto")["MemberRole"]["Properties"]
    assert role["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Sid": "TheCentralRoleAlone",
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"AWS": f"arn:aws:iam::{CENTRAL}:role/Auto"},
            "Condition": {
                "StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5", "sts:ExternalId": "secret-word"}
            },
        }
    ]


def test_without_an_external_id_none_is_asked_for() -> None:
    statement = deploy()["MemberRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]
    assert statement["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}


def test_a_permissions_boundary_is_put_on_the_role_when_one_is_given() -> None:
    boundary = f"arn:aws:iam::{MEMBER}:policy/boundary"
    assert (
        deploy(PermissionsBoundaryArn=boundary)["MemberRole"]["Properties"]["PermissionsBoundary"] == boundary
    )
    assert "PermissionsBoundary" not in deploy()["MemberRole"]["Properties"]


def test_in_the_central_account_the_central_role_gets_the_policy_and_no_role_is_made() -> None:
    resources = deploy(CENTRAL, RolloutPhase="General")
    assert set(resources) == {"Permissions"}
    assert resources["Permissions"]["Properties"]["Roles"] == ["AutoDefender"]
    assert deploy()["Permissions"]["Properties"]["Roles"] == ["MemberRole"]


def test_the_policy_fits_into_a_managed_policy_with_a_dozen_vendors_layers() -> None:
    vendors = ",".join(f"arn:aws:lambda:*:46462253{n:04}:layer:Some-Vendors-Extension-*:*" for n in range(12))
    largest = permissions("TagGated", OtherLayers=vendors, ReadReportLines="true")
    # IAM quotas: 6,144 characters without white space.
    assert len(json.dumps(largest, separators=(",", ":"))) <= 6144


@pytest.mark.parametrize(
    "refused",
    [
        {"TagKey": "SecurityScan"},
        {"TagKey": "aws:tag"},
        {"TagKey": ""},
        {"RolloutPhase": "Everything"},
        {"CentralAccountId": "12345"},
        {"ExternalId": "x"},
        {"OrganizationId": "r-a1b2"},
    ],
)
def test_a_parameter_that_would_open_the_role_is_refused(refused: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(refused))):
        deploy(**refused)
