"""What started a run: somebody's command, or a schedule, which the weekly report counts."""

from pathlib import Path

import pytest

from tests.functional.moto_server import auto_defender, environment, workspace_with


@pytest.mark.parametrize(
    ("variable", "trigger"),
    [
        ({}, "command"),
        ({"AUTO_DEFENDER_TRIGGER": "schedule"}, "schedule"),
        ({"AUTO_DEFENDER_TRIGGER": ""}, "command"),
    ],
)
def test_a_command_is_a_command_unless_its_environment_says_otherwise(
    server: str, tmp_path: Path, variable: dict[str, str], trigger: str
) -> None:
    workspace = workspace_with(server, tmp_path, 3)
    done = auto_defender(
        "run", "--json", "--config", workspace.configure(), env=environment(server, **variable)
    )
    assert (done.summary["trigger"], done.summary["whole_scope"]) == (trigger, True)


def test_another_trigger_is_one_clear_line(server: str, tmp_path: Path) -> None:
    workspace = workspace_with(server, tmp_path, 3)
    env = environment(server, AUTO_DEFENDER_TRIGGER="cron")
    done = auto_defender("run", "--config", workspace.configure(), env=env)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "environment variable AUTO_DEFENDER_TRIGGER: 'cron'; expected schedule or command" in done.stderr
