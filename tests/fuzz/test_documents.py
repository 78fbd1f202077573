"""Whatever a file contains, it is read as written or refused in one line that names it: never a traceback."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from auto_defender.config import Configuration, read_configuration
from auto_defender.sources import read_source
from remediator.journal.journals import Journals
from remediator.plan.plan import document_digest
from remediator.plan.plan_file import MAX_PLAN_BYTES, read_plan
from remediator.rollout.lock import RunLock
from remediator.settings import RolloutSettings
from remediator.state.functions import records
from remediator.state.quarantine import quarantined
from remediator.state.wave_states import releases
from scanner.core.errors import AutoDefenderError, BadInput
from scanner.organization.optouts import read_optouts
from storage.folder import FolderStore
from tests.functional.moto_server import ROOT, environment
from tests.fuzz.spoilt import VALUES, garbled, spoilt
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, layer
from tests.unit.remediator.harness import RUN, Harness, journal_of, wait_briefly

NOW = datetime(2026, 11, 24, 3, 42, tzinfo=UTC)
SECRET = "s3cret-of-the-security-team"
CONFIGURATION: dict[str, Any] = {
    "organization": {
        "role_name": "AutoDefenderMember",
        "external_id": "x-123",
        "regions": ["us-east-1", "us-west-2"],
        "exclude_accounts": ["111122223333"],
    },
    "defender": {
        "layers": {
            "python": "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4",
            "nodejs": {
                "us-east-1": "arn:aws:lambda:us-east-1:111122223333:layer:twistlock-nodejs:4",
                "us-west-2": "arn:aws:lambda:{region}:111122223333:layer:twistlock-nodejs:7",
            },
        },
        "wrapper": "/opt/twistlock/wrapper",
        "environment": {"TW_POLICY": SECRET},
        "tag": {"key": "SecurityProtected", "value": "True"},
    },
    "risk": {"min_memory_mb": 256, "architectures": ["x86_64"], "utilization": {"threshold_pct": 95}},
    "rollout": {"dry_run": True, "stop_after_failure_pct": 5.0, "exclusion_list": ["a-*"]},
    "sweep": {"workers": 8, "calls_per_second": 10.0, "unit_timeout_sec": 60.0, "run_timeout_sec": 600.0},
    "optouts": "optouts.yaml",
    "output": "./out",
}
OPTOUTS: dict[str, Any] = {
    "optouts": [
        {"account": "222233334444", "regions": ["us-east-1"], "functions": ["billing-*"], "reason": "latency",
         "owner": "payments@example.com", "expires": datetime(2027, 3, 31).date()},  # noqa: DTZ001
    ]
}  # fmt: skip


def refused_in_a_line(read: Callable[[], Any], source: str) -> Any:
    """Read; a refusal names the source, is one line, and holds nothing secret."""
    try:
        return read()
    except BadInput as error:
        assert error.exit_code == 2
        assert source in str(error)
        assert len(str(error).splitlines()) == 1, str(error)
        assert SECRET not in str(error)
        return None


def in_yaml(document: Any) -> bytes:
    return yaml.safe_dump(document, sort_keys=False).encode("utf-8", "surrogatepass")


CONFIGURATIONS = (
    spoilt(CONFIGURATION).map(in_yaml)
    | VALUES.map(in_yaml)
    | garbled(in_yaml(CONFIGURATION))
    | st.binary(max_size=200)
)
OPTOUT_FILES = (
    spoilt(OPTOUTS).map(in_yaml) | VALUES.map(in_yaml) | garbled(in_yaml(OPTOUTS)) | st.binary(max_size=200)
)


@given(CONFIGURATIONS)
@settings(deadline=None, max_examples=120)
def test_a_configuration(text: bytes) -> None:
    read = refused_in_a_line(lambda: read_configuration(text, "the.yaml", {}), "the.yaml")
    if read is not None:
        assert_no_default_in_place_of_what_is_written(read, text)


def assert_no_default_in_place_of_what_is_written(read: Configuration, text: bytes) -> None:
    written = yaml.safe_load(text)
    document = read.model_dump(mode="json", exclude_unset=True)
    assert document.keys() == written.keys()
    for section, keys in written.items():
        if isinstance(keys, dict):
            assert document[section].keys() == keys.keys(), section
    numbers = (read.sweep.unit_timeout_sec, read.sweep.calls_per_second, read.rollout.stop_after_failure_pct)
    assert all(0 <= number < float("inf") for number in numbers), "a limit that no number is compared with"


@given(
    st.sampled_from(
        [
            "DRY_RUN",
            "EXCLUSION_LIST",
            "MAX_LAYERS",
            "MIN_MEMORY_MB",
            "TIMEOUT_BUFFER_SEC",
            "ZIPPED_SIZE_THRESHOLD",
        ]
    ),
    st.text(max_size=30) | st.integers().map(str) | st.just("9" * 5000),
)
@settings(deadline=None, max_examples=60)
def test_an_environment_variable(name: str, text: str) -> None:
    refused_in_a_line(
        lambda: read_configuration(in_yaml(CONFIGURATION), "the.yaml", {name: text}),
        f"environment variable {name}",
    )


@given(OPTOUT_FILES)
@settings(deadline=None, max_examples=120)
def test_an_optout_file(text: bytes) -> None:
    read = refused_in_a_line(lambda: read_optouts(text, "optouts.yaml"), "optouts.yaml")
    if read is not None:
        assert len(read.entries) == len(yaml.safe_load(text)["optouts"]), "an entry was passed over"


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    """A run with a plan, a journal and everything that is kept between runs."""
    with pytest.MonkeyPatch.context() as patch:
        wait_briefly(patch)
        harness = Harness(FakeLambda(), tmp_path_factory.mktemp("harness"))
        harness.aws.add("a")
        harness.aws.add("b")
        harness.apply()
        harness.rollback([RUN])
        return harness


@given(data=st.data())
@settings(deadline=None, max_examples=80)
def test_a_plan(harness: Harness, data: st.DataObject) -> None:
    right = harness.plan().to_json()
    document = json.loads(right)
    if not document["changes"]:
        document = json.loads(PLAN)
    text = data.draw(
        spoilt(document).map(lambda d: json.dumps(d).encode("utf-8", "surrogatepass"))
        | garbled(right)
        | st.binary(max_size=200)
    )
    read = refused_in_a_line(
        lambda: read_plan(text, "PLAN.json", now=NOW, config_digest="digest"), "PLAN.json"
    )
    assert read is None or read.digest == document_digest(json.loads(text))


PLAN = json.dumps(
    {"format": 1, "run_id": RUN, "created": NOW.isoformat(), "expires": NOW.isoformat(), "partition": "aws",
     "config_digest": "digest", "held_back": {"drift": 1}, "digest": "x", "changes": []}
)  # fmt: skip


@given(data=st.data())
@settings(deadline=None, max_examples=80)
def test_a_journal(harness: Harness, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = f"journals/{RUN}/00001.jsonl"
    right = journal_of(harness.store.root, RUN).encode().splitlines()
    number = data.draw(st.integers(0, len(right) - 1))
    line = data.draw(
        spoilt(json.loads(right[number])).map(lambda d: json.dumps(d).encode())
        | garbled(right[number])
        | st.just(b"[" * 100_000)
    )
    store = FolderStore(tmp_path_factory.mktemp("journal"))
    store.write(path, b"\n".join([*right[:number], line, *right[number + 1 :]]) + b"\n", "")
    journals = Journals(store, harness.defender)
    entries = journals.history()
    assert all(path in problem and "\n" not in problem for problem in journals.refused)
    assert {entry.intent.function_arn for entry in entries} <= set(harness.aws.functions)
    assert {entry.intent.run_id for entry in entries} <= {RUN}
    layers = [arn for entry in entries for arn in (entry.intent.delta.layer, entry.intent.delta.layer_before)]
    assert {arn.rpartition(":")[0] for arn in layers if arn} <= {layer(4).rpartition(":")[0]}


KEPT: dict[str, tuple[bytes, Callable[[FolderStore], Any]]] = {
    "state/quarantine.json": (
        (b'{"format": 2, "mark": [1, 2], "functions": [{"function_arn": "arn:aws:lambda:us-east-1:111122223333:function:f",'
        b' "since": "2026-11-24T00:00:00+00:00", "run_id": "r",'
        b' "reason": "x", "gone": ""}]}'),
        quarantined,
    ),
    f"state/functions/{ACCOUNT}.json": (
        (b'{"format": 2, "mark": [1, 2], "functions": [{"function_arn": "arn:aws:lambda:us-east-1:111122223333:function:a", "at": "t", "ended": "failed", "wave": "w", "release": "r",'
        b' "protections": {"times": 1, "run_id": "r", "at": "t"}, "failure": {"detail": "d", "action": "protect",'
        b' "revision_id": "r", "config_digest": "c", "run_id": "r", "at": "2026-11-24T00:00:00+00:00", "times": 2}, "gone": "2026-11-24", "runs": ["r"]}]}'),
        lambda store: [record.failure.next_try for record in records(store).values() if record.failure],
    ),
    "state/waves.json": (
        (b'{"format": 3, "mark": [1, 2], "releases": [{"release": "r", "waves": [{"name": "w", "changed": 3, "done": "2026-11-24T00:00:00+00:00",'
        b' "accounts": {"111122223333": {"changed": 3, "failed": 0}}}]}]}'),
        releases,
    ),
    "state/lock/00000001.json": (
        b'{"run_id": "r", "host": "h", "pid": 1, "until": "2020-01-01T00:00:00+00:00"}',
        lambda store: RunLock(store, RUN).__enter__().__exit__(None, None, None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", KEPT)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_what_is_kept_between_runs(
    path: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    right, read = KEPT[path]
    text = data.draw(
        spoilt(json.loads(right)).map(lambda d: json.dumps(d).encode())
        | garbled(right)
        | st.just(b"[" * 100_000)
    )
    store = FolderStore(tmp_path_factory.mktemp("kept"))
    store.write(path, text, "")
    try:
        read(store)
    except AutoDefenderError as error:
        assert error.exit_code in {2, 5}
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("depth", [30, 5_000, 400_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")])
def test_deep_nesting(depth: int, opening: str, closing: str) -> None:
    text = (opening * depth + "x" + closing * depth).encode()
    with pytest.raises(BadInput, match=r"the.yaml.*(nested deeper than 20 levels|bytes; at most)"):
        read_configuration(text, "the.yaml", {})


def test_a_bomb_of_aliases() -> None:
    rows = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(BadInput, match="line 1: anchors and aliases are not taken"):
        read_configuration("\n".join(rows).encode(), "the.yaml", {})


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of 100 MB, which takes no space on the disk."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    return path


@pytest.mark.parametrize("what", ["configuration", "opt-out file"])
def test_100_mb_are_refused_and_not_read(what: str, large: Path, tmp_path: Path) -> None:
    config = tmp_path / "auto-defender.yaml"
    config.write_bytes(in_yaml(CONFIGURATION | {"optouts": str(large)}))
    command = ["scan", "--config", str(large)]
    if what == "opt-out file":
        command = ["optouts", "check", "--config", str(config)]
    code = (
        "import resource, sys; import auto_defender.jobs.run, auto_defender.cli as cli\n"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: cli.app(sys.argv[1:])\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        check=False,
        env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert str(large) in line
    assert "at most 1,000,000 are read" in line
    assert int(done.stdout) < 60_000, "kB more than before"


def test_a_plan_of_100_mb_is_refused_and_not_read(large: Path) -> None:
    text = read_source(str(large), boto3.Session(region_name="us-east-1"), "plan", None, most=MAX_PLAN_BYTES)
    assert len(text) == MAX_PLAN_BYTES + 1
    with pytest.raises(BadInput, match=r"50,000,001 bytes; at most 50,000,000"):
        read_plan(text, "PLAN.json", now=NOW, config_digest="digest")


def test_a_plan_of_many_changes_can_be_applied(harness: Harness) -> None:
    """As large as rollout.max_changes_per_run lets it be by default, and ten times as large."""
    for number in range(5_000):
        harness.aws.add(f"a-function-with-a-long-name-{number:0100}")
    harness.rollout = RolloutSettings(max_changes_per_run=5_000, max_changes_per_account=5_000)
    plan = harness.plan()
    assert len(plan.changes) == 5_000
    assert read_plan(plan.to_json(), "PLAN.json", now=NOW, config_digest="digest") == plan
