"""An organization in the emulator: a central account, members with the real member stack, functions and a layer."""

import hashlib
import io
import json
import time
import zipfile
from dataclasses import dataclass, field
from typing import Any

from tests.e2e import templates
from tests.e2e.emulator import Emulator

REGIONS = ("us-east-1", "us-west-2")
EXTERNAL_ID = "e2e-external-id"
LAYER = "twistlock-python"
SETTLE_TIMEOUT_SEC = 120.0


@dataclass(frozen=True)
class Keys:
    """Credentials of a role's session, as sts:AssumeRole gives them."""

    access_key: str
    secret_key: str
    token: str

    def environment(self) -> dict[str, str]:
        """Return them as the variables that boto3 reads."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_SESSION_TOKEN": self.token,
        }


@dataclass
class Organization:
    """The management account is the central account too: the emulator keeps an organization in one account."""

    emulator: Emulator
    central: str
    id: str
    central_role: str = "AutoDefender"
    members: dict[str, str] = field(default_factory=dict)

    def add_account(self, name: str) -> str:
        """Create a member account and give its id."""
        status = self.emulator.root(self.central, "organizations").create_account(
            Email=f"{name}@example.com", AccountName=name
        )["CreateAccountStatus"]
        self.members[name] = status["AccountId"]
        return self.members[name]

    def deploy(
        self, account_id: str, template: str, parameters: dict[str, str], **where: str
    ) -> dict[str, str]:
        """Deploy a template of stacksets/ (or its next version) and give the stack's outputs."""
        region = where.get("region", REGIONS[0])
        stack = where.get("stack", template.removesuffix(".yaml"))
        cloudformation = self.emulator.root(account_id, "cloudformation", region)
        request = {
            "StackName": stack,
            "TemplateBody": templates.deployable(template, account_id),
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        }
        known = {s["StackName"] for s in cloudformation.list_stacks()["StackSummaries"]}
        (cloudformation.update_stack if stack in known else cloudformation.create_stack)(**request)
        return _outputs(cloudformation, stack)

    def deploy_central(self, package: bytes, **parameters: str) -> dict[str, str]:
        """Deploy the central stack with a package as its function's code, and give its outputs."""
        bucket = f"code-{self.central}"
        s3 = self.emulator.root(self.central, "s3")
        s3.create_bucket(Bucket=bucket)
        key = f"{hashlib.sha256(package).hexdigest()}.zip"
        s3.put_object(Bucket=bucket, Key=key, Body=package)
        return self.deploy(self.central, "central.yaml", {"CodeBucket": bucket, "CodeKey": key, **parameters})

    def silence_schedules(self) -> None:
        """Keep the central stack's schedules from delivering by themselves when a test runs over the full hour."""
        scheduler = self.emulator.root(self.central, "scheduler")
        for listed in scheduler.list_schedules()["Schedules"]:
            schedule = scheduler.get_schedule(Name=listed["Name"])
            kept = {key: schedule[key] for key in ("ScheduleExpression", "FlexibleTimeWindow", "Target")}
            scheduler.update_schedule(Name=listed["Name"], State="DISABLED", **kept)

    def member_parameters(self, phase: str) -> dict[str, str]:
        """Return the parameters of the member stack in a phase of the rollout."""
        return {
            "CentralAccountId": self.central,
            "CentralRoleName": self.central_role,
            "OrganizationId": self.id,
            "ExternalId": EXTERNAL_ID,
            "RolloutPhase": phase,
            "DefenderLayers": f"arn:aws:lambda:*:{self.central}:layer:twistlock-*:*",
        }

    def deploy_member(self, account_id: str, phase: str, **parameters: str) -> None:
        """Deploy the member stack in a phase of the rollout."""
        self.deploy(account_id, "member-role.yaml", {**self.member_parameters(phase), **parameters})
        if account_id != self.central:
            # ministack asks for lambda:ListLayers, on any resource, where AWS asks for lambda:GetLayerVersion.
            self.emulator.root(account_id, "iam").put_role_policy(
                RoleName="AutoDefenderMember",
                PolicyName="emulator",
                PolicyDocument=policy("lambda:ListLayers"),
            )

    def share_layer(self, region: str) -> str:
        """Publish the Defender layer in a region, share it with the members, and give its version's ARN."""
        bucket = f"layers-{self.central}"
        s3 = self.emulator.root(self.central, "s3", region)
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=f"{bucket}-{region}", **where)
        s3.put_object(
            Bucket=f"{bucket}-{region}", Key="defender-1.zip", Body=archive("twistlock/wrapper", "#!/bin/sh")
        )
        parameters = {
            "LayerName": LAYER,
            "Description": "Defender 1, Python",
            "BucketPrefix": bucket,
            "ZipKey": "defender-1.zip",
            "CompatibleRuntimes": "python3.11,python3.12",
            "OrganizationId": self.id,
        }
        arn = self.deploy(self.central, "layer-sharing.yaml", parameters, region=region)["LayerVersionArn"]
        # ministack knows an organization's id only in its management account, so that the grant to the organization
        # (tests/unit/stacksets) lets no member in; one grant for each member replaces it.
        client = self.emulator.root(self.central, "lambda", region)
        for name, account_id in self.members.items():
            client.add_layer_version_permission(
                LayerName=LAYER,
                VersionNumber=int(arn.rsplit(":", 1)[1]),
                StatementId=name,
                Action="lambda:GetLayerVersion",
                Principal=account_id,
            )
        return arn

    def add_function(self, account_id: str, region: str, name: str, **settings: Any) -> str:
        """Create a function that Auto-Defender may protect, but for the settings given, and give its ARN."""
        self._function_role(account_id)
        client = self.emulator.root(account_id, "lambda", region)
        request = {
            "FunctionName": name,
            "Role": f"arn:aws:iam::{account_id}:role/application",
            "Runtime": "python3.11",
            "Handler": "app.handler",
            "Code": {"ZipFile": archive("app.py", "def handler(event, context):\n    return 'fine'\n")},
            "MemorySize": 512,
            "Timeout": 30,
            "Environment": {"Variables": {"STAGE": "production"}},
            **settings,
        }
        arn: str = client.create_function(**request)["FunctionArn"]
        settle(client, name)
        return arn

    def _function_role(self, account_id: str) -> None:
        iam = self.emulator.root(account_id, "iam")
        if any(role["RoleName"] == "application" for role in iam.list_roles()["Roles"]):
            return
        iam.create_role(RoleName="application", AssumeRolePolicyDocument=trust("lambda.amazonaws.com"))

    def assume(self, role_name: str, account_id: str, by: Keys | None = None, **request: str) -> Keys:
        """Return a session of a role, assumed by a role's session or by the account's root."""
        sts = self.client("sts", by) if by else self.emulator.root(account_id, "sts")
        got = sts.assume_role(
            RoleArn=f"arn:aws:iam::{account_id}:role/{role_name}", RoleSessionName="end-to-end", **request
        )["Credentials"]
        return Keys(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])

    def as_central(self) -> Keys:
        """Return a session of the central role (which trusts Lambda; the emulator counts root as a service)."""
        return self.assume(self.central_role, self.central)

    def as_member_role(self, account_id: str) -> Keys:
        """Return a session of a member account's role, assumed the way Auto-Defender does."""
        return self.assume("AutoDefenderMember", account_id, self.as_central(), ExternalId=EXTERNAL_ID)

    def client(self, service: str, keys: Keys, region: str = REGIONS[0]) -> Any:
        """Return a client that calls with a session's credentials."""
        return self.emulator.client(
            service, region, access_key=keys.access_key, secret_key=keys.secret_key, token=keys.token
        )


def create(emulator: Emulator, central: str) -> Organization:
    """Create an organization in the central account."""
    described = emulator.root(central, "organizations").describe_organization()["Organization"]
    return Organization(emulator, central, described["Id"])


def archive(path: str, text: str) -> bytes:
    """Make a zip of one executable file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        entry = zipfile.ZipInfo(path)
        entry.external_attr = 0o755 << 16
        file.writestr(entry, text)
    return buffer.getvalue()


def trust(*services: str) -> str:
    """Return a trust policy that lets services assume a role."""
    statement = {"Effect": "Allow", "Principal": {"Service": list(services)}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def policy(action: str) -> str:
    """Return a policy that allows an action on everything."""
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def settle(client: Any, name: str) -> None:
    """Wait until a function is active and no update of it is in progress."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_SEC
    while time.monotonic() < deadline:
        now = client.get_function_configuration(FunctionName=name)
        if now["State"] == "Active" and now["LastUpdateStatus"] == "Successful":
            return
        time.sleep(0.05)
    raise RuntimeError(f"{name} did not settle")


def _outputs(cloudformation: Any, stack: str) -> dict[str, str]:
    """Wait for a stack and give its outputs; where it failed, say which resource and why."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_SEC
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    while described["StackStatus"].endswith("_IN_PROGRESS") and time.monotonic() < deadline:
        time.sleep(0.05)
        described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    if described["StackStatus"] not in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
        reasons = [f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason')}" for e in events]
        raise RuntimeError(f"{stack}: {described['StackStatus']}: {reasons}")
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}
