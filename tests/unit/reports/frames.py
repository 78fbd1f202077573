"""Frames of a made-up organization, as the scanner and the remediator hand them over, of any size."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from remediator.rollout.health import FunctionHealth
from remediator.rollout.waves import WaveStatus
from reports.data.rollout_status import VERDICTS, DriftedFunction, RolloutStatus
from reports.data.run_result import Mode, RunResult
from scanner.inventory.alias_traffic import SERVED
from scanner.organization.optouts import OptOut

NOW = datetime(2026, 11, 24, 3, 42, 32, tzinfo=UTC)
REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "ap-southeast-2")
# What an account owner can choose: none of it may do anything anywhere.
HOSTILE = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    '"><img src=x onerror=window.pwned=1>',
    "';window.pwned=1;//",
    "{{7*7}}${7*7}<%= 7*7 %>",
    '=HYPERLINK("http://evil.example","x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    "innocent;=1+1",
    'two\nlines, "quoted"',
    "\u202egpj.exe\u202c",
    "\u0627\u0644\u0628\u0646\u0643",
    "nul\x00 bell\x07 \ud800",
    "<!--",
    "&lt;b&gt;",
    "javascript:window.pwned=1",
    "\u2028line\u2029separators",
    "W" * 120,
    "</script>",
    "n" * 140,  # as long as a function's name can be
    "",
)  # fmt: skip
_REASONS = (
    "package_type", "architecture", "runtime", "memory", "timeout", "layers", "code_size", "wrapper_conflict",
    "env_unreadable", "opted_out", "memory;timeout", "architecture;package_type", "exclusion_list",
    "quarantined", "state", "runtime_update_blocked;runtime", "tag_required",
)  # fmt: skip
_EXCLUDED = {"opted_out", "exclusion_list", "quarantined", "tag_required"}
_OUS = (
    "Root", "Root/Workloads", "Root/Workloads/Prod", "Root/Workloads/Prod/Payments", "Root/Workloads/Dev",
    "Root/Sandbox", "Root/Infrastructure", "Root/Security",
)  # fmt: skip
WORDS = (
    "billing",
    "orders",
    "ingest",
    "export",
    "thumbnail",
    "notify",
    "audit",
    "search",
    "webhook",
    "sync",
)


def organization(
    accounts: int = 24,
    functions: int = 500,
    *,
    hostile: bool = False,
    unread: int = 3,
    seed: int = 7,
    mode: Mode = "dry_run",
    started: datetime = NOW,
) -> RunResult:
    """Make a whole run. hostile: hostile strings as account names, OU paths, function names and details."""
    random = np.random.default_rng(seed)
    known = make_accounts(accounts, hostile)
    units = make_units(known, unread, hostile)
    assessed = make_functions(units, functions, random, hostile)
    units["functions"] = _functions_a_unit(units, assessed)
    changes = make_changes(assessed, mode, hostile)
    done = assessed["function_name"].isin(changes.loc[changes["outcome"] == "changed", "function_name"])
    assessed.loc[done, ["protection", "verdict", "reasons"]] = ["protected", "protected", ""]
    failed = bool((changes["outcome"] == "failed").any())
    return RunResult(
        run_id=f"{started:%Y%m%dT%H%M%SZ}-1a2b3c",
        mode=mode,
        started=started,
        ended=started + timedelta(seconds=41.5),
        partition="aws",
        accounts=known,
        units=units,
        functions=assessed,
        changes=changes,
        exit_code=4 if failed else 3 if unread else 0,
        plan_json=json.dumps({"run_id": "x"}).encode(),
        optouts=make_optouts(started.date(), hostile),
        quarantine=[
            {
                "function_arn": f"arn:aws:lambda:us-east-1:{known.account_id[1]}:function:orders-1",
                "since": "2026-11-20T10:00:00Z",
                "reason": HOSTILE[0] if hostile else "rolled back: the function failed to start",
            }
        ],
        stages={"accounts": 0.41, "sweep": 30.2, "assess": 0.1, "apply": 9.7},
        calls={"lambda:ListFunctions": {"calls": 96, "retries": 2, "throttles": 1}},
        rollout=make_rollout(changes, hostile),
        version="0.1.0",
    )


def without_functions(*, blind: bool) -> RunResult:
    """Make a run that read no function: there are none, or (blind) no unit could be read."""
    run = organization()
    units = run.units.assign(functions=0, outcome="access_denied" if blind else "read")
    return replace(run, functions=run.functions.iloc[:0], changes=run.changes.iloc[:0], units=units)


def make_accounts(count: int, hostile: bool = False) -> pd.DataFrame:
    """Accounts; the last is suspended, the one before it out of scope."""
    names = [f"{WORDS[i % len(WORDS)]}-{('prod', 'dev', 'test')[i % 3]}-{i:03d}" for i in range(count)]
    ous = [_OUS[i % len(_OUS)] for i in range(count)]
    if hostile:
        names = [HOSTILE[i] if i < len(HOSTILE) else name for i, name in enumerate(names)]
        ous = [f"Root/{HOSTILE[i]}" if i < len(HOSTILE) else ou for i, ou in enumerate(ous)]
    frame = pd.DataFrame(
        {
            "account_id": [f"{i + 1:012d}" for i in range(count)],
            "account_name": names,
            "ou_path": ous,
            "state": "ACTIVE",
            "in_scope": True,
            "detail": "",
        }
    )
    frame.loc[frame.index[-1], ["state", "in_scope"]] = ["SUSPENDED", True]
    frame.loc[frame.index[-2], ["in_scope", "detail"]] = [False, "organization.exclude_accounts"]
    return frame


def make_units(accounts: pd.DataFrame, unread: int, hostile: bool = False) -> pd.DataFrame:
    """Two to four regions an account; `unread` of them failed."""
    regions = REGIONS[:2] if len(accounts) < 100 else REGIONS
    frame = pd.DataFrame(
        [
            {
                "account_id": account_id,
                "region": region,
                "outcome": "suspended" if state != "ACTIVE" else "read" if in_scope else "opted_out",
                "functions": 0,
                "detail": "",
            }
            for account_id, state, in_scope in zip(
                accounts["account_id"], accounts["state"], accounts["in_scope"], strict=True
            )
            for region in regions
        ]
    )
    failures = ("access_denied", "throttled", "timed_out", "error")
    for i in range(unread):
        detail = HOSTILE[i % len(HOSTILE)] if hostile else "sts:AssumeRole was refused: AccessDenied"
        frame.loc[2 + 3 * i, ["outcome", "detail"]] = [failures[i % 4], detail]
    readable = frame.index[frame["outcome"] == "read"]
    frame.loc[readable[-2], ["outcome", "detail"]] = ["region_disabled", ""]
    frame.loc[readable[-3], ["outcome", "detail"]] = ["opted_out", "Latency budget, CHG-4711"]
    return frame


def make_functions(
    units: pd.DataFrame, count: int, random: np.random.Generator, hostile: bool = False
) -> pd.DataFrame:
    """Assessed functions in the units that were read."""
    read = units[units["outcome"] == "read"].reset_index(drop=True)
    unit = np.sort(random.integers(0, len(read), count))
    verdict = random.choice(["protected", "eligible", "other"], count, p=[0.55, 0.2, 0.25])
    reason = np.where(verdict == "other", random.choice(_REASONS, count), "")
    verdict = np.where(
        verdict != "other", verdict, np.where(np.isin(reason, list(_EXCLUDED)), "excluded", "skipped")
    )
    bare = random.choice(["unprotected", "unprotected", "unprotected", "partial", "outdated"], count)
    runtimes = random.choice(
        ["python3.12", "python3.11", "nodejs20.x", "nodejs22.x", "java21", "go1.x", ""], count
    )
    words = random.integers(0, len(WORDS), (2, count))
    names = [f"{WORDS[a]}-{WORDS[b]}-{i:06x}" for i, (a, b) in enumerate(words.T)]
    if hostile:
        names[: len(HOSTILE)] = HOSTILE
    return pd.DataFrame(
        {
            "account_id": pd.Categorical(read["account_id"].to_numpy()[unit]),
            "region": pd.Categorical(read["region"].to_numpy()[unit]),
            "function_name": names,
            "runtime": pd.Categorical(runtimes),
            "package_type": pd.Categorical(np.where(runtimes == "", "Image", "Zip")),
            "architecture": pd.Categorical(random.choice(["x86_64", "arm64"], count, p=[0.8, 0.2])),
            "memory_mb": random.choice([-1, 128, 256, 512, 1024], count).astype("int32"),
            "timeout_sec": random.choice([3, 30, 300, 900], count).astype("int32"),
            "code_size_bytes": random.integers(1_000, 90_000_000, count),
            "layers": pd.Categorical([""] * count),
            "layer_count": random.integers(0, 6, count).astype("int8"),
            "exec_wrapper": pd.Categorical(np.where(verdict == "protected", "/opt/twistlock/wrapper", "")),
            "env_names": pd.Categorical([""] * count),
            "env_bytes": random.integers(2, 4096, count).astype("int32"),
            "env_readable": np.ones(count, dtype=bool),
            "revision_id": "5b7d1f9e-0000-4000-8000-000000000000",
            "state": pd.Categorical(["Active"] * count),
            "last_update_status": pd.Categorical(["Successful"] * count),
            "fails_opted_out": reason == "opted_out",
            "remove": np.zeros(count, dtype=bool),
            "edge_replica": np.zeros(count, dtype=bool),
            "signed": np.zeros(count, dtype=bool),
            "kinds": pd.Categorical([""] * count),
            "required_tag": np.ones(count, dtype=bool),
            "optout_tag": np.zeros(count, dtype=bool),
            "tags_read": np.ones(count, dtype=bool),
            "memory_utilization_pct": np.full(count, np.nan, dtype="float32"),
            "timeout_utilization_pct": random.random(count).astype("float32") * 100,
            "memory_utilization_outcome": pd.Categorical(["unmeasured"] * count),
            "timeout_utilization_outcome": pd.Categorical(["measured"] * count),
            "warnings": pd.Categorical([""] * count),
            "family": pd.Categorical(np.where(np.char.startswith(runtimes, "python"), "python", "nodejs")),
            "protection": pd.Categorical(np.where(verdict == "protected", "protected", bare)),
            "verdict": pd.Categorical(verdict),
            "reasons": pd.Categorical(reason),
        }
    )


def make_rollout(changes: pd.DataFrame, hostile: bool = False) -> RolloutStatus:
    """Two waves; one changed function that is healthy and one that regressed; one lost once and one given up."""
    arns = [str(arn) for arn in changes["function_arn"]]
    why = HOSTILE[2] if hostile else "errors: 0.1 % before, 4.2 % after"
    snippet = "\n".join(["layers:", f"  - {HOSTILE[0] if hostile else 'arn:aws:lambda:x:y:layer:z:4'}"])
    run_id = "20261123T034232Z-1a2b3c"
    return RolloutStatus(
        waves=(
            WaveStatus("pilot", "passed", "no more is held back", 12, 4, 8, 0, 1, 7),
            WaveStatus("rest", "waiting", "waits for the waves before it", 480, 200, 0, 0, 0, 0),
        ),
        health=tuple(
            FunctionHealth(arn, run_id, "pilot", "2026-11-23T03:44:00Z", verdict, why, None, None)
            for arn, verdict in zip(arns, VERDICTS[:2], strict=False)
        ),
        drift=tuple(
            DriftedFunction(arn, times, run_id, "2026-11-23T03:44:00Z", times > 2, tool, text)
            for arn, times, tool, text in zip(
                arns[2:], (1, 3), ("", "Serverless Framework"), ("", snippet), strict=False
            )
        ),
    )


def serving(run: RunResult, **columns: Any) -> RunResult:
    """Return a run that read what its functions serve: latest_only, but for the columns given."""
    count = len(run.functions)
    plain = {
        "served": pd.Categorical(["latest_only"] * count, categories=list(SERVED)),
        "serves_latest": np.ones(count, dtype=bool),
        "served_outcome": pd.Categorical(["read"] * count),
        "aliases": pd.Categorical([""] * count),
        "snap_start": pd.Categorical(["None"] * count),
        "provisioned_concurrency": np.zeros(count, dtype="int32"),
    }
    return replace(run, functions=run.functions.assign(**plain | columns))


def make_changes(assessed: pd.DataFrame, mode: Mode, hostile: bool = False) -> pd.DataFrame:
    """One change for each eligible function, up to 60 of them."""
    rows: list[Mapping[str, Any]] = []
    eligible = assessed[assessed["verdict"] == "eligible"].head(60)
    actions = {"unprotected": "protect", "partial": "repair", "outdated": "upgrade"}
    for i, row in enumerate(eligible.itertuples()):
        outcome = "planned" if mode != "apply" else ("failed", "deferred")[i] if i < 2 else "changed"
        detail = "UpdateFunctionConfiguration: ResourceConflictException" if outcome == "failed" else ""
        rows.append(
            {
                "account_id": row.account_id,
                "region": row.region,
                "function_name": row.function_name,
                "function_arn": f"arn:aws:lambda:{row.region}:{row.account_id}:function:{row.function_name}",
                "action": actions[str(row.protection)],
                "outcome": outcome,
                "detail": HOSTILE[i % len(HOSTILE)] if hostile else detail,
                "attempts": 0 if outcome == "planned" else 1,
            }
        )
    columns = [
        "account_id",
        "region",
        "function_name",
        "function_arn",
        "action",
        "outcome",
        "detail",
        "attempts",
    ]
    of_a_rollback = ("layer_before", "layer_after", "wrapper_before", "wrapper_after", "as_before", "aliases")
    return pd.DataFrame(rows, columns=columns).assign(**dict.fromkeys(of_a_rollback, ""))


def make_optouts(today: date, hostile: bool = False) -> Sequence[OptOut]:
    """One in force, one that lapses within the month, one expired, one without an end."""
    reason = HOSTILE[2] if hostile else "Latency budget, CHG-4711"
    return [
        OptOut(
            account="000000000003",
            reason=reason,
            owner="payments@example.com",
            expires=today + timedelta(120),
        ),
        OptOut(
            account="000000000004",
            functions=("billing-*", "orders-legacy"),
            reason="Being rewritten",
            owner="orders@example.com",
            expires=today + timedelta(9),
        ),
        OptOut(
            account="*",
            regions=("eu-west-1",),
            functions=("canary-*",),
            reason="Canaries measure cold starts",
            owner="sre@example.com",
            expires=today - timedelta(3),
        ),
        OptOut(account="000000000005", reason="Vendor account", owner="vendor@example.com"),
    ]


def _functions_a_unit(units: pd.DataFrame, assessed: pd.DataFrame) -> list[int]:
    counts = assessed.groupby(["account_id", "region"], observed=True).size().to_dict()
    return [int(counts.get(key, 0)) for key in zip(units["account_id"], units["region"], strict=True)]
