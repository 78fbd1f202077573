"""An organization, and the real command line configured for it, run as a process as the central role."""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.organization import EXTERNAL_ID, LAYER, REGIONS, Keys, Organization, archive
from tests.loaded_python import start

EAST, WEST = REGIONS
WRAPPER = "/opt/twistlock/wrapper"
PACKAGE = archive("auto_defender/lambda_handler.py", "def handler(event, context):\n    return event\n")


@dataclass(frozen=True)
class Result:
    """What a run of the command line left behind."""

    exit_code: int
    summary: dict[str, Any]
    stderr: str
    output: Path

    def rows(self, name: str) -> list[dict[str, str]]:
        """Read one of the run's CSV files."""
        (path,) = self.output.glob(f"runs/*/*/*/{self.summary['run_id']}/{name}")
        return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


@dataclass
class Deployment:
    """An organization with the central stack, and a command line configured for it."""

    organization: Organization
    folder: Path
    optouts: str | None = None

    def add_account(self, name: str, phase: str | None, *functions: str, region: str = EAST) -> str:
        """Add an account, with the member stack in a phase (None: without), and functions."""
        account_id = self.organization.add_account(name)
        if phase:
            self.organization.deploy_member(account_id, phase)
        for function in functions:
            self.organization.add_function(account_id, region, function)
        return account_id

    def share(self) -> None:
        """Publish the layer in each region and share it with the accounts that there are."""
        for region in REGIONS:
            self.organization.share_layer(region)

    def run(self, *arguments: str, **sections: dict[str, Any]) -> Result:
        """Run the command line to its end; sections of the configuration may be overridden key by key."""
        config = self.folder / "auto-defender.yaml"
        config.write_text(yaml.safe_dump(self._configuration(sections)))
        output = self.folder / "out"
        command = ("-m", "auto_defender", *arguments, "--config", str(config), "--json")
        done = start(*command, env=self._environment(self.organization.as_central())).wait()
        summary = done.summary if done.stdout.strip() else {}
        return Result(done.exit_code, summary, done.stderr, output)

    def function(self, account_id: str, name: str, region: str = EAST) -> dict[str, Any]:
        """Read a function's configuration as its owner."""
        client = self.organization.emulator.root(account_id, "lambda", region)
        found: dict[str, Any] = client.get_function_configuration(FunctionName=name)
        return found

    def layers(self, account_id: str, name: str, region: str = EAST) -> list[str]:
        """Name a function's layers in their order."""
        return [layer["Arn"] for layer in self.function(account_id, name, region).get("Layers", [])]

    def defender(self, region: str = EAST) -> str:
        """Return the ARN of the Defender layer in a region."""
        return f"arn:aws:lambda:{region}:{self.organization.central}:layer:{LAYER}:1"

    def _configuration(self, sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
        configuration: dict[str, Any] = {
            "organization": {
                "role_name": "AutoDefenderMember",
                "external_id": EXTERNAL_ID,
                "regions": list(REGIONS),
                # Every ledger has its two units, opted out; test_permissions sees to its own functions.
                "exclude_accounts": [self.organization.central],
            },
            "defender": {"layers": {"python": self.defender("{region}")}, "wrapper": WRAPPER},
            "risk": {"runtime_families": ["python"]},
            "rollout": {"dry_run": True, "stop_after_failure_pct": 100, "quiet_minutes": 0},
            "optouts": self.optouts,
            "output": str(self.folder / "out"),
        }
        for name, section in sections.items():
            configuration[name] = {**configuration[name], **section}
        return configuration

    def _environment(self, keys: Keys) -> dict[str, str]:
        emulator = self.organization.emulator
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_ENDPOINT_URL": emulator.url,
            "AWS_CA_BUNDLE": str(emulator.certificate),
            "AWS_DEFAULT_REGION": EAST,
            "AWS_EC2_METADATA_DISABLED": "true",
            **keys.environment(),
        }
