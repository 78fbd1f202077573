"""`remove: true` in the opt-out file, by the command line: reported without it, taken off with it, in dry runs planned."""

import csv
import io
from pathlib import Path
from typing import Any

import yaml

from scanner.settings import EXEC_WRAPPER
from tests.functional.moto_server import Done, auto_defender, configurations, environment, workspace_with


class _Removals:
    def __init__(self, server: str, folder: Path) -> None:
        self.workspace = workspace_with(server, folder, 4)
        self.env = environment(server)
        rollout = {"quiet_minutes": 0}
        utilization = {"enabled": False}
        self.config = self.workspace.configure(rollout=rollout, risk={"utilization": utilization})
        self.before = self.functions()
        done = self.run("--apply")
        self.changed = {row["function_arn"] for row in self.rows(done) if row["outcome"] == "changed"}
        self.account = next(iter(self.changed)).split(":")[4]

    def functions(self) -> dict[str, dict[str, Any]]:
        return configurations([account.id for account in self.workspace.organization.accounts])

    def run(self, *arguments: str) -> Done:
        return auto_defender("run", "--config", self.config, "--json", *arguments, env=self.env)

    def rows(self, done: Done) -> list[dict[str, str]]:
        text = self.workspace.run_file(done.summary["run_id"], "changes.csv")
        return list(csv.DictReader(io.StringIO(text)))

    def opt_out(self, **entry: Any) -> None:
        path = self.workspace.folder / "optouts.yaml"
        present = yaml.safe_load(path.read_text())["optouts"]
        kept = [one for one in present if one.get("owner") != "o@example.com"]
        new = {"account": self.account, "reason": "CHG-4711", "owner": "o@example.com", **entry}
        path.write_text(yaml.safe_dump({"optouts": [*kept, new]}))


def test_an_account_that_opts_out_is_reported_then_planned_then_cleared(server: str, tmp_path: Path) -> None:
    one = _Removals(server, tmp_path)
    theirs = {arn for arn in one.functions() if arn.split(":")[4] == one.account}
    one.opt_out(functions=["*"])
    reported = one.run()
    carrying = reported.summary["optouts_protected"]
    assert carrying >= len(one.changed & theirs)
    page = one.workspace.run_file(reported.summary["run_id"], "report.html")
    assert "opted out and still with something of ours" in page
    assert not [row for row in one.rows(reported) if row["account_id"] == one.account]

    one.opt_out(remove=True)
    dry = one.run()
    planned = {row["function_arn"] for row in one.rows(dry) if row["action"] == "remove"}
    assert planned >= one.changed & theirs
    assert {row["outcome"] for row in one.rows(dry) if row["action"] == "remove"} == {"planned"}
    assert dry.summary["changes_by_action"]["remove"] == len(planned) == carrying
    assert dry.summary["optouts_protected"] == 0

    made = one.run("--apply")
    removed = {row["function_arn"] for row in one.rows(made) if row["action"] == "remove"}
    assert removed == planned
    assert {row["outcome"] for row in one.rows(made) if row["action"] == "remove"} == {"changed"}
    now = one.functions()
    for arn in removed:
        assert not [layer for layer in now[arn]["Layers"] if "layer:twistlock-" in layer["Arn"]]
        assert EXEC_WRAPPER not in now[arn]["Environment"]["Variables"]
    found = list(csv.DictReader(io.StringIO(one.workspace.run_file(made.summary["run_id"], "functions.csv"))))
    cells = {
        (row["protection"], row["verdict"], row["reasons"]) for row in found if row["function_arn"] in removed
    }
    assert cells == {("unprotected", "excluded", "opted_out")}
    again = one.run("--apply")
    assert "remove" not in again.summary["changes_by_action"]
