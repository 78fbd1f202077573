"""What the roles of the stacks may do and may not, enforced by the emulator.

The emulator knows every condition key of the templates but lambda:Layer, and asks for lambda:ListLayers where AWS asks
for lambda:GetLayerVersion: tests/unit/stacksets evaluates the policy itself for those two, and the report bucket's policy,
which tests/e2e/templates.py adapts. Its CloudFormation ignores a
bucket's encryption and a function's reserved concurrency: the unit tests read those in the template.
"""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.organization import EXTERNAL_ID, LAYER, Keys, Organization, archive, policy, settle, trust
from tools.templates import render

PHASES = ("DryRun", "TagGated", "General")
REGION = "us-east-1"


@pytest.fixture(scope="module")
def organization(new_organization: Callable[[], Organization]) -> Organization:
    """Return an organization with a member account in each phase, which has a plain and a tagged function."""
    created = new_organization()
    created.deploy_central(
        archive("auto_defender/lambda_handler.py", "def handler(event, context):\n    return event\n")
    )
    for phase in PHASES:
        account_id = created.add_account(phase)
        created.deploy_member(account_id, phase)
        created.add_function(account_id, REGION, "plain")
        created.add_function(account_id, REGION, "tagged", Tags={"SecurityScan": "true"})
    created.share_layer(REGION)
    return created


def refused(call: Callable[..., Any], **request: Any) -> bool:
    """Call, and return whether AWS refused it for lack of permission; any other refusal is an error."""
    try:
        call(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"AccessDenied", "AccessDeniedException"}:
            raise
        return True
    return False


def member(organization: Organization, phase: str, service: str = "lambda") -> Any:
    return organization.client(service, organization.as_member_role(organization.members[phase]), REGION)


def administrator_of_central(organization: Organization) -> Keys:
    """Return a session of a role of the central account that IAM allows everything."""
    iam = organization.emulator.root(organization.central, "iam")
    if "Administrator" not in {role["RoleName"] for role in iam.list_roles()["Roles"]}:
        iam.create_role(RoleName="Administrator", AssumeRolePolicyDocument=trust("lambda.amazonaws.com"))
        iam.put_role_policy(RoleName="Administrator", PolicyName="all", PolicyDocument=policy("*"))
    return organization.assume("Administrator", organization.central)


def attach(organization: Organization, phase: str, function: str, layers: list[str]) -> bool:
    """Let the member role set a function's layers; return whether it was refused."""
    was_refused = refused(
        member(organization, phase).update_function_configuration, FunctionName=function, Layers=layers
    )
    settle(organization.emulator.root(organization.members[phase], "lambda", REGION), function)
    return was_refused


def defender(organization: Organization) -> str:
    return f"arn:aws:lambda:{REGION}:{organization.central}:layer:{LAYER}:1"


@pytest.mark.parametrize("phase", PHASES)
def test_the_sweep_may_read_in_every_phase(organization: Organization, phase: str) -> None:
    client = member(organization, phase)
    names = {item["FunctionName"] for item in client.list_functions()["Functions"]}
    assert names == {"plain", "tagged"}
    client.get_function_configuration(FunctionName="plain")
    client.get_function_code_signing_config(FunctionName="plain")
    client.list_aliases(FunctionName="plain")
    client.list_tags(Resource=client.get_function_configuration(FunctionName="plain")["FunctionArn"])
    assert member(organization, phase, "account").list_regions()["Regions"]
    member(organization, phase, "resourcegroupstaggingapi").get_resources(
        ResourceTypeFilters=["lambda:function"]
    )
    member(organization, phase, "cloudwatch").get_metric_data(
        MetricDataQueries=[
            {
                "Id": "memory",
                "MetricStat": {
                    "Metric": {"Namespace": "LambdaInsights", "MetricName": "memory_utilization"},
                    "Period": 300,
                    "Stat": "Maximum",
                },
            }
        ],
        StartTime=0,
        EndTime=300,
    )


@pytest.mark.parametrize(
    ("phase", "function", "may_write"),
    [
        ("DryRun", "plain", False),
        ("DryRun", "tagged", False),
        ("TagGated", "plain", False),
        ("TagGated", "tagged", True),
        ("General", "plain", True),
        ("General", "tagged", True),
    ],
)
def test_a_phase_decides_which_functions_may_be_changed(
    organization: Organization, phase: str, function: str, may_write: bool
) -> None:
    client = member(organization, phase)
    arn = client.get_function_configuration(FunctionName=function)["FunctionArn"]
    assert attach(organization, phase, function, [defender(organization)]) is not may_write
    assert refused(client.tag_resource, Resource=arn, Tags={"SecurityProtected": "True"}) is not may_write
    assert refused(client.untag_resource, Resource=arn, TagKeys=["SecurityProtected"]) is not may_write
    assert attach(organization, phase, function, []) is not may_write


@pytest.mark.parametrize("phase", PHASES)
def test_no_phase_lets_the_role_touch_code_or_run_it(organization: Organization, phase: str) -> None:
    client = member(organization, phase)
    function = {"FunctionName": "tagged"}
    role = f"arn:aws:iam::{organization.members[phase]}:role/application"
    code = archive("app.py", "import os\n")
    assert refused(client.update_function_code, **function, ZipFile=code)
    assert refused(client.get_function, **function)
    assert refused(client.invoke, **function)
    assert refused(client.publish_version, **function)
    assert refused(client.delete_function, **function)
    assert refused(client.create_alias, **function, Name="live", FunctionVersion="1")
    assert refused(client.publish_layer_version, LayerName=LAYER, Content={"ZipFile": code})
    assert refused(
        client.create_function,
        FunctionName="new",
        Role=role,
        Runtime="python3.11",
        Handler="a.b",
        Code={"ZipFile": code},
    )
    assert refused(
        client.add_permission, **function, StatementId="all", Action="lambda:InvokeFunction", Principal="*"
    )
    assert refused(
        member(organization, phase, "iam").create_role,
        RoleName="mine",
        AssumeRolePolicyDocument=trust("ec2.amazonaws.com"),
    )


@pytest.mark.parametrize("phase", PHASES)
def test_the_role_cannot_admit_functions_to_the_tag_gated_phase(
    organization: Organization, phase: str
) -> None:
    client = member(organization, phase)
    for function in ("plain", "tagged"):
        arn = client.get_function_configuration(FunctionName=function)["FunctionArn"]
        assert refused(client.tag_resource, Resource=arn, Tags={"SecurityScan": "true"})
        assert refused(
            client.tag_resource, Resource=arn, Tags={"SecurityScan": "true", "SecurityProtected": "True"}
        )
        assert refused(client.untag_resource, Resource=arn, TagKeys=["SecurityScan"])


@pytest.mark.parametrize("phase", PHASES)
def test_the_policy_that_the_unit_tests_evaluate_is_the_one_deployed(
    organization: Organization, phase: str
) -> None:
    account_id = organization.members[phase]
    iam = organization.emulator.root(account_id, "iam")
    (attached,) = iam.list_attached_role_policies(RoleName="AutoDefenderMember")["AttachedPolicies"]
    version = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]["DefaultVersionId"]
    deployed = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId=version)["PolicyVersion"]
    rendered = render("member-role.yaml", account_id, **organization.member_parameters(phase))
    assert deployed["Document"] == rendered["Permissions"]["Properties"]["PolicyDocument"]


def test_the_member_role_asks_for_the_external_id(organization: Organization) -> None:
    account_id = organization.members["General"]
    assume, central = organization.assume, organization.as_central()
    assert refused(assume, role_name="AutoDefenderMember", account_id=account_id, by=central)
    assert refused(
        assume,
        role_name="AutoDefenderMember",
        account_id=account_id,
        by=central,
        ExternalId=EXTERNAL_ID.upper(),
    )
    assert not refused(
        assume, role_name="AutoDefenderMember", account_id=account_id, by=central, ExternalId=EXTERNAL_ID
    )


def test_no_other_principal_of_the_central_account_may_assume_the_member_role(
    organization: Organization,
) -> None:
    assert refused(
        organization.assume,
        role_name="AutoDefenderMember",
        account_id=organization.members["General"],
        by=administrator_of_central(organization),
        ExternalId=EXTERNAL_ID,
    )


def test_a_role_of_that_name_in_another_organization_is_a_stranger(organization: Organization) -> None:
    account_id = organization.add_account("another-organization")
    organization.deploy_member(account_id, "General", OrganizationId="o-anotherorganization")
    assert refused(organization.as_member_role, account_id=account_id)


def test_the_central_role_protects_its_own_account_through_the_same_template(
    organization: Organization,
) -> None:
    central = organization.client("lambda", organization.as_central(), REGION)
    organization.add_function(organization.central, REGION, "central-function")
    assert refused(central.list_functions)
    organization.deploy_member(organization.central, "General")
    assert central.list_functions()["Functions"]
    assert not refused(central.update_function_configuration, FunctionName="central-function", MemorySize=512)
    assert refused(central.update_function_code, FunctionName="central-function", ZipFile=b"zip")
    roles = organization.emulator.root(organization.central, "iam").list_roles()["Roles"]
    assert "AutoDefenderMember" not in {role["RoleName"] for role in roles}


def test_the_central_role_keeps_reports_and_deletes_only_state(organization: Organization) -> None:
    bucket = _output(organization, "ReportBucket")
    s3 = organization.client("s3", organization.as_central(), REGION)
    for key in ("runs/2026/11/24/one/summary.json", "state/lock"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"{}")
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"{}"
    assert not refused(s3.delete_object, Bucket=bucket, Key="state/lock")
    assert refused(s3.delete_object, Bucket=bucket, Key="runs/2026/11/24/one/summary.json")
    assert refused(s3.delete_bucket, Bucket=bucket)
    assert refused(s3.put_bucket_policy, Bucket=bucket, Policy="{}")
    assert refused(s3.put_object, Bucket=bucket, Key="config/optouts.yaml", Body=b"optouts: []")


def test_an_administrator_of_the_central_account_writes_the_kill_switch_and_opt_outs_alone(
    organization: Organization,
) -> None:
    bucket = _output(organization, "ReportBucket")
    administrator = organization.client("s3", administrator_of_central(organization), REGION)
    product = organization.client("s3", organization.as_central(), REGION)
    journal, quarantine = "journals/20261124T034232Z-1a2b3c/00001.jsonl", "state/quarantine.json"
    for key in (journal, quarantine):
        assert refused(administrator.put_object, Bucket=bucket, Key=key, Body=b"{}")
        product.put_object(Bucket=bucket, Key=key, Body=b"{}")
        assert refused(administrator.delete_object, Bucket=bucket, Key=key)
        assert administrator.get_object(Bucket=bucket, Key=key)["Body"].read() == b"{}"
    assert refused(product.delete_object, Bucket=bucket, Key=journal)
    for key in ("state/stop", "config/optouts.yaml"):
        assert not refused(administrator.put_object, Bucket=bucket, Key=key, Body=b"incident")
        assert product.get_object(Bucket=bucket, Key=key)["Body"].read() == b"incident"
        assert not refused(administrator.delete_object, Bucket=bucket, Key=key)


def test_the_central_role_reads_the_organization_and_changes_nothing_in_it(
    organization: Organization,
) -> None:
    organizations = organization.client("organizations", organization.as_central(), REGION)
    assert {"DryRun", "General"} <= {account["Name"] for account in organizations.list_accounts()["Accounts"]}
    root = organizations.list_roots()["Roots"][0]["Id"]
    organizations.list_organizational_units_for_parent(ParentId=root)
    assert refused(organizations.create_organizational_unit, ParentId=root, Name="mine")
    assert refused(organizations.close_account, AccountId=organization.members["DryRun"])


def test_the_kill_switch_stops_the_schedules(organization: Organization) -> None:
    package = archive("auto_defender/lambda_handler.py", "def handler(event, context):\n    return event\n")

    def states() -> set[str]:
        schedules = organization.emulator.root(organization.central, "scheduler").list_schedules()[
            "Schedules"
        ]
        return {schedule["State"] for schedule in schedules}

    assert states() == {"ENABLED"}
    organization.deploy_central(package, KillSwitch="on")
    assert states() == {"DISABLED"}
    organization.deploy_central(package)
    assert states() == {"ENABLED"}


def _output(organization: Organization, key: str) -> str:
    stack = organization.emulator.root(organization.central, "cloudformation").describe_stacks(
        StackName="central"
    )
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Stacks"][0]["Outputs"]}
    return str(outputs[key])
