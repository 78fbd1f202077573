"""Judges a life from outside: each write as it comes, and each run at its end. One function a rule."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from simulator.calls import Call, Write
from simulator.state import Function
from tests.months import organization as org
from tests.months.life import ACCOUNT_LIMIT, HEALTH_HOURS, QUIET, RUN_LIMIT, SOAK_HOURS, WAVES, Life, Release
from tests.months.operations import Operations, Run
from tests.months.session import IN_FLIGHT
from tests.months.truth import (
    Reach,
    carries,
    lacks,
    layers_of,
    of_others,
    of_us,
    opted_out,
    refusals,
    to_be_removed,
    variables_of,
    wave_of,
)

_SPREAD = ("max_changes_per_run", "max_changes_per_account")
_FEW = 0.05  # of a wave's changes: so many more, and it soaks anew
_FAILED_PCT = (5.0, 10.0, 10.0)
_LONGEST_BACKOFF_HOURS = 168
_GIVEN_UP = 3
_FIRST_TRIES = 3  # of a function in vain within its first hours; each takes a place of its account's limit
_RUNS = 3  # within which a function without an obstacle is changed
_KEPT_RELEASES = 5
_OF_A_CHANGE = ("GetFunctionConfiguration", "UpdateFunctionConfiguration")
_CHANGED_BY_US = (org.WRAPPER, org.POLICY)


@dataclass(frozen=True)
class Violation:
    """A rule that was broken: when, in which run, of which function, and how."""

    rule: str
    at: datetime
    run_id: str
    function: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.at:%Y-%m-%d %H:%M} run {self.run_id} {self.function}: {self.text}"


@dataclass
class Wave:
    """What is known of a wave under a release. ended: how each function's last change ended.

    could_since: since when a run may have found nothing of it to change; passed: it may have. complete_since, fair_since:
    since when, and in how many runs since it has soaked, it must have.
    """

    changed_at: datetime | None = None
    ended: dict[str, str] = field(default_factory=dict)
    regressed: set[str] = field(default_factory=set)
    could_since: datetime | None = None
    passed: bool = False
    complete_since: datetime | None = None
    fair_since: int = 0

    def failed_too_often(self, pct: float) -> bool:
        failed = sum(end == "failed" for end in self.ended.values())
        return 100 * failed > pct * len(self.ended)


@dataclass
class Tries:
    """How often a function was tried in vain since its owner's last deployment, and when last."""

    count: int
    at: datetime

    @property
    def next_try(self) -> datetime:
        return self.at + timedelta(hours=min(2 ** (self.count - 1), _LONGEST_BACKOFF_HOURS))


@dataclass
class Seen:
    """What was so at the end of a run: the functions in the units that it could read, and those protected."""

    run: Run
    functions: set[str]
    protected: set[str]


class Judge:
    """Holds what it has seen of a life, and every rule that was broken."""

    def __init__(
        self, life: Life, operations: Operations, found: Callable[[Violation], None] = lambda violation: None
    ) -> None:
        self.found = found
        self.life = life
        self.core = life.core
        self.operations = operations
        self.reach = Reach(self.core)
        self.violations: list[Violation] = []
        self.changes = 0
        self.runs: dict[str, Run] = {}
        self.seen: list[Seen] = []
        self.quarantined: dict[str, str] = {}
        self.installs: Counter[str] = Counter()  # in runs that ended: at least so many
        self.installs_at_most: Counter[str] = Counter()
        self.waves: dict[Release, list[Wave]] = {}
        self.tries: dict[str, Tries] = {}
        self.due: Counter[str] = Counter()
        self.harmed: Counter[str] = Counter()
        self.regressions: list[datetime] = []
        self._touched: defaultdict[str, set[str]] = defaultdict(set)
        self._writes: defaultdict[str, list[Write]] = defaultdict(list)
        self._release: Release | None = None
        self.core.on_write = self._wrote
        self.core.before = self._called
        operations.begun = self._begun
        operations.ended = self._ended
        operations.week = self._week
        operations.acted = self._acted

    # What happens

    def _begun(self, run: Run) -> None:
        self.runs[run.session] = run
        kept = {one: self.waves[one] for one in self.waves if one != run.release}
        newest = dict(list(kept.items())[-(_KEPT_RELEASES - 1) :])
        if run.kind == "run":
            self.waves = {**newest, run.release: self.waves.get(run.release, [Wave() for _ in WAVES])}
        if run.release != self._release:
            self._release = run.release
            self.tries.clear()
            self.due.clear()
        if run.kind == "run":
            self._pass(run)

    def _called(self, call: Call) -> None:
        run = self.runs.get(call.session)
        if run and self.life.meddles(call):
            run.faults["owner deploys"] += 1
        if run is None or run.kind != "run" or call.operation not in _OF_A_CHANGE:
            return
        self._touched[run.run_id].add(call.function)
        if any(denial.covers(call) for denial in self.core.denials):
            self._wave_ended(run, call.function, "failed")

    def _wave_ended(self, run: Run, arn: str, end: str) -> None:
        number = wave_of(self.core, arn.split(":")[4])
        for waves in self.waves.values():
            for wave in waves:
                wave.ended.pop(arn, None)
        if number < len(WAVES):
            self.waves[run.release][number].ended[arn] = end

    def _wrote(self, write: Write) -> None:
        if write.call.operation == "DeleteFunction":
            for known in (self.quarantined, self.installs, self.installs_at_most, self.tries, self.due):
                known.pop(write.arn, None)
        run = self.runs.get(write.call.session)
        if run is None:
            self.tries.pop(write.arn, None)
            return
        self._writes[run.run_id].append(write)
        if write.call.operation in {"TagResource", "UntagResource"}:
            self._report(run, write.arn, "owners", _tags(write))
        elif write.call.operation != "UpdateFunctionConfiguration":
            self._say(run, write.arn, "forbidden", f"{write.call.operation} was called")
        else:
            self._updated(run, write)

    def _updated(self, run: Run, write: Write) -> None:
        self.changes += 1
        self._report(run, write.arn, "owners", _owners(write))
        newest = self.operations.runs[-1]
        if newest is not run and write.call.user_agent != IN_FLIGHT:
            self._say(
                run, write.arn, "lock", f"it writes, although run {newest.run_id} has taken the lock over"
            )
        assert write.before is not None
        assert write.after is not None
        if write.before["LastUpdateStatus"] == "Failed":
            self._report(run, write.arn, "removal", _removal(write))
        elif carries(write.after, run.release) and run.kind == "run":
            self._report(run, write.arn, "forbidden", self._forbidden(run, write))
            self._report(run, write.arn, "waves", self._too_early(run, write))
            self._attached(run, write)
        else:
            self._report(run, write.arn, "removal", _removal(write))
            self._removed(run, write)

    def _attached(self, run: Run, write: Write) -> None:
        fails = write.arn in self.core.fails_next
        number = wave_of(self.core, write.arn.split(":")[4])
        if number < len(WAVES):
            self.waves[run.release][number].changed_at = run.started
        self._wave_ended(run, write.arn, "failed" if fails else "changed")
        if write.before is not None and lacks(write.before) and not fails:
            self.installs_at_most[write.arn] += 1

    def _removed(self, run: Run, write: Write) -> None:
        function, before = self.core.function(write.arn), Function(write.before or {})
        days = (run.started.date(), (run.started + run.weather.offset).date())
        self.installs.pop(write.arn, None)
        self.installs_at_most.pop(write.arn, None)
        if run.kind == "run" and any(to_be_removed(before, run.optouts, day) for day in days):
            return
        if run.kind == "run":
            if not self.life.harmed(before):
                self._say(
                    run, write.arn, "removal", "a run removed the Defender from a function that does well"
                )
            number = wave_of(self.core, write.arn.split(":")[4])
            if number < len(WAVES):
                self.waves[run.release][number].regressed.add(write.arn)
            self.regressions.append(self.life.time.now())
        if not run.weather.store and function is not None:
            self.quarantined[write.arn] = run.run_id

    def _acted(self, what: str, arns: list[str]) -> None:
        for arn in arns:
            if what == "release":
                self.quarantined.pop(arn, None)
            if what == "retry":
                self.installs.pop(arn, None)
                self.installs_at_most.pop(arn, None)
                self.tries.pop(arn, None)

    # Rules of a write

    def _forbidden(self, run: Run, write: Write) -> Iterator[str]:
        """What the rules forbid: by what the function is, by its owner, by an earlier rollback, by a stop."""
        assert write.before is not None
        function = self.core.function(write.arn)
        assert function is not None
        yield from (f"the rules forbid it: {why}" for why in refusals(function, write.before, run.release))
        if write.call.parameters.get("RevisionId") != write.before["RevisionId"]:
            yield "sent without the revision that was read"
        days = {run.started.date(), (run.started + run.weather.offset).date()}
        if opted_out(function, run.optouts, days):
            yield "it is opted out"
        if write.arn in self.quarantined:
            yield f"run {self.quarantined[write.arn]} rolled it back, and nobody has released it"
        if self.installs[write.arn] >= _GIVEN_UP and lacks(write.before):
            yield f"it was protected {self.installs[write.arn]} times and lost it each time"
        if run.stopped:
            yield "state/stop is on"
        modified = datetime.fromisoformat(str(write.before["LastModified"]))
        if not run.weather.offset and write.at - modified < QUIET:
            yield f"modified at {modified:%H:%M}, within the quiet time"
        mine = [org.is_ours(arn) for arn in layers_of(write.before)]
        if [org.is_ours(arn) for arn in layers_of(write.after)] not in (mine, [*mine, True]):
            yield "our layer is at another position"

    def _too_early(self, run: Run, write: Write) -> Iterator[str]:
        """A wave begins when all before it have soaked, and are within their limits."""
        for number, wave in enumerate(self.waves[run.release][: self._wave(write.arn)]):
            if not wave.passed:
                whys = self._keeps(wave, number, run.weather.offset)
                yield from (f"wave {WAVES[number]} has not passed: {why}" for why in whys)
                return

    def _pass(self, run: Run) -> None:
        """Let the waves pass that may have, in their order."""
        for number, wave in enumerate(self.waves[run.release]):
            wave.passed = wave.passed or not any(self._keeps(wave, number, run.weather.offset))
            if not wave.passed:
                return

    def _keeps(self, wave: Wave, number: int, offset: timedelta) -> Iterator[str]:
        """Why a wave can't have passed by now, by a clock that is so far off."""
        now, soak = self.life.time.now() + max(offset, timedelta()), timedelta(hours=SOAK_HOURS, minutes=-5)
        if wave.could_since is None:
            yield "some of it is to be changed"
        elif now - wave.could_since < soak:
            yield f"nothing is to be changed since {wave.could_since:%d. %H:%M}, it soaks"
        if wave.failed_too_often(_FAILED_PCT[number]):
            yield f"{Counter(wave.ended.values())}: more than {_FAILED_PCT[number]:g} % failed"
        if wave.regressed:
            yield f"{len(wave.regressed)} regressed"

    def _wave(self, arn: str) -> int:
        return wave_of(self.core, arn.split(":")[4])

    # Rules of a run

    def _ended(self, run: Run) -> None:
        for rule in _RULES_OF_A_RUN:
            self._report(run, "", rule.__name__.strip("_"), rule(self, run))
        self._count_installs(run)
        if run.kind == "run":
            self._take_tries(run)
            self._converge(run)
            self._heal(run)
        if run.fair:
            self._see(run)
        self._touched.pop(run.run_id, None)

    def writes_of(self, run: Run) -> list[Write]:
        return [
            one for one in self._writes[run.run_id] if one.call.operation == "UpdateFunctionConfiguration"
        ]

    def _count_installs(self, run: Run) -> None:
        for write in self.writes_of(run):
            after, before = write.after or {}, write.before or {}
            if (
                run.fair
                and lacks(before)
                and carries(after, run.release)
                and before["LastUpdateStatus"] != "Failed"
            ):
                function = self.core.function(write.arn)
                if function and carries(function.configuration, run.release):
                    self.installs[write.arn] += 1

    def _take_tries(self, run: Run) -> None:
        for arn in self._touched[run.run_id]:
            function = self.core.function(arn)
            if function is None or carries(function.configuration, run.release):
                self.tries.pop(arn, None)
                continue
            known = self.tries.get(arn)
            self.tries[arn] = Tries(known.count + 1 if known else 1, run.started)

    def _converge(self, run: Run) -> None:
        """What can carry the desired state carries it soon, as soon as nothing is in its way."""
        quarantined = self._in_quarantine()
        candidates = [one for arn, one in self.core.functions.items() if arn not in quarantined]
        pending = [one for one in candidates if self._may_carry(run, one)]
        due = {one.arn for one in pending if self._is_due(run, one)}
        went_on = run.fair and self._went_on(run)
        self._complete(run, due)
        self._soak(run, {one.arn for one in pending}, went_on=went_on)
        if not went_on:
            self.due.clear()
            return
        allowed = self._allowed(run)
        waiting = {arn for arn in due if self._wave(arn) <= allowed}
        waiting |= {one.arn for one in candidates if self._keeps_it(run, one)}
        for arn in [arn for arn in self.due if arn not in waiting]:
            del self.due[arn]
        for arn in waiting:
            self.due[arn] += 1
            account = arn.split(":")[4]
            beside = sum(other.split(":")[4] == account for other in waiting) + _FIRST_TRIES * self._failing(
                account
            )
            patience = _RUNS + beside // ACCOUNT_LIMIT + len(waiting) // RUN_LIMIT
            if self.due[arn] > patience:
                self._say(
                    run, arn, "convergence", f"it could be changed in {self.due[arn]} runs, and was not"
                )
                self.due[arn] = -50

    def _heal(self, run: Run) -> None:
        """What a release harms for certain is rolled back while it is watched."""
        for arn, function in self.core.functions.items():
            reached = self.reach.unit(arn.split(":")[4], arn.split(":")[3]) and self.reach.change(arn)
            if not (run.fair and reached and self.life.harmed(function) and not self.life.nightly(arn)):
                self.harmed.pop(arn, None)
                continue
            self.harmed[arn] += 1
            if self.harmed[arn] == HEALTH_HOURS + 1:
                self._say(
                    run, arn, "regression", "most of its invocations fail since its change, and it keeps it"
                )

    def _complete(self, run: Run, due: set[str]) -> None:
        """Note since when a run may have found nothing of a wave to change."""
        for number, wave in enumerate(self.waves[run.release]):
            changed = sum(self._wave(write.arn) == number for write in self.writes_of(run))
            if changed > _FEW * len(wave.ended) or wave.could_since is None:
                waits = any(self._wave(arn) == number for arn in due)
                wave.could_since = None if waits else run.started + min(run.weather.offset, timedelta())

    def _keeps_it(self, run: Run, function: Function) -> bool:
        """Return whether a function keeps what its opt-out has removed, and nothing is in the way."""
        arn, layers = function.arn, of_us(layers_of(function.configuration))
        reached = self.reach.unit(arn.split(":")[4], arn.split(":")[3]) and self.reach.change(arn)
        at_rest = function.configuration["LastUpdateStatus"] == "Successful" and not function.key_denied
        wanted = to_be_removed(function, run.optouts, run.started.date())
        return bool(layers) and wanted and reached and at_rest and self._is_due(run, function)

    def _failing(self, account: str) -> int:
        return sum(arn.split(":")[4] == account for arn in self.tries)

    def _went_on(self, run: Run) -> bool:
        return run.summary is not None and run.summary["stopped_by"] in (None, *_SPREAD)

    def _may_carry(self, run: Run, function: Function) -> bool:
        """Return whether a function is to be changed and nothing but waves, time and limits is in the way."""
        configuration, arn = function.configuration, function.arn
        account, region = arn.split(":")[4], arn.split(":")[3]
        return not (
            carries(configuration, run.release)
            or refusals(function, configuration, run.release)
            or opted_out(function, run.optouts, [run.started.date()])
            or (self.installs_at_most[arn] >= _GIVEN_UP and lacks(configuration))
            or not self.reach.unit(account, region)
            or not self.reach.change(arn)
        )

    def _is_due(self, run: Run, function: Function) -> bool:
        modified = datetime.fromisoformat(str(function.configuration["LastModified"]))
        tries = self.tries.get(function.arn)
        waits = tries is not None and run.started < tries.next_try
        return not waits and run.started - modified >= QUIET

    def _in_quarantine(self) -> set[str]:
        found = json.loads(self.operations.store.read("state/quarantine.json") or b"[]")
        entries = found if isinstance(found, list) else found["functions"]
        return {entry["function_arn"] for entry in entries}

    def _soak(self, run: Run, pending: set[str], *, went_on: bool) -> None:
        """Follow the first wave that may not have passed: since when it is complete, for how many runs it should pass."""
        for number, wave in enumerate(self.waves[run.release]):
            if wave.fair_since > _RUNS:
                continue
            waits = any(self._wave(arn) == number and arn not in self.tries for arn in pending)
            if wave.changed_at == run.started or waits or not self._all_read(number):
                wave.complete_since, wave.fair_since = None, 0
            elif went_on:
                wave.complete_since = wave.complete_since or run.started
                soaked = run.started - wave.complete_since >= timedelta(hours=SOAK_HOURS)
                within = not wave.regressed and not wave.failed_too_often(_FAILED_PCT[number])
                wave.fair_since = wave.fair_since + 1 if soaked and within else 0
            return

    def _all_read(self, number: int) -> bool:
        accounts = [
            one for one in self.core.organization.accounts.values() if wave_of(self.core, one.id) == number
        ]
        active = [one for one in accounts if one.status == "ACTIVE"]
        units = [
            (one.id, region) for one in active for region in org.REGIONS if region not in one.disabled_regions
        ]
        return bool(units) and all(self.reach.unit(*unit) for unit in units)

    def _allowed(self, run: Run) -> int:
        """Return the number of the last wave whose functions must be changed by now."""
        passed = [wave.fair_since > _RUNS for wave in self.waves[run.release]]
        return passed.index(False) if False in passed else len(WAVES)

    def _see(self, run: Run) -> None:
        functions = {
            one.arn: one
            for one in self.core.functions.values()
            if self.reach.unit(one.arn.split(":")[4], one.arn.split(":")[3])
        }
        protected = {arn for arn, one in functions.items() if self.shown(one, run)}
        self.seen.append(Seen(run, set(functions), protected))

    def shown(self, function: Function, run: Run) -> bool:
        return carries(function.configuration, run.release) and not function.key_denied

    # Weeks and the end

    def _week(self, week: str, summary: Mapping[str, Any]) -> None:
        by_id = {one.run.run_id: one for one in self.seen}
        last = by_id.get(summary["end"]["run_id"])
        if last is None:
            return
        told = summary["end"]["functions"], summary["end"]["protected"]
        so = len(last.functions), len(last.protected)
        if told != so:
            self._say(last.run, "", "week", f"{week} reports {told} functions and protected, there were {so}")
        first = by_id.get(summary["start"]["run_id"])
        if first is not None:
            self._report(last.run, "", "week", _week_differs(summary, first, last))

    def rebuilt(self, files: list[str]) -> None:
        """After a run that nothing has disturbed, the state is what the journals say, to the byte."""
        last = self.operations.runs[-1]
        for path in files if last.fair else ():
            self._say(last, "", "rebuild", f"{path} was not what the journals say")

    def finish(self) -> None:
        """Judge what only a whole life shows: that runs cost the same at its end as at its beginning."""
        quiet = [
            one for one in self.operations.runs if one.fair and one.kind == "run" and not self.writes_of(one)
        ]
        fifth = len(quiet) // 5
        if fifth < 20:
            return
        early, late = quiet[fifth : 2 * fifth], quiet[-fifth:]
        for what in ("calls", "reads"):
            before, after = (median(getattr(one, what) for one in some) for some in (early, late))
            if after > 1.5 * before + 10:
                self._say(late[-1], "", "growth", f"{what} of a quiet run: {before:g} early, {after:g} late")

    def _report(self, run: Run, arn: str, rule: str, texts: Iterator[str]) -> None:
        for text in texts:
            self._say(run, arn, rule, text)

    def _say(self, run: Run, arn: str, rule: str, text: str) -> None:
        violation = Violation(rule, self.life.time.now(), run.run_id, arn, text)
        self.violations.append(violation)
        self.found(violation)


def _tags(write: Write) -> Iterator[str]:
    changed = {
        k
        for k in write.tags_before.keys() | write.tags_after.keys()
        if write.tags_before.get(k) != write.tags_after.get(k)
    }
    if changed - {"SecurityProtected"}:
        yield f"tags {sorted(changed)} were changed"


def _owners(write: Write) -> Iterator[str]:
    """Nothing of the owner's is lost, reordered or changed, whatever a write is for."""
    before, after = write.before or {}, write.after or {}
    if of_others(layers_of(before)) != of_others(layers_of(after)):
        yield "a foreign layer was lost or reordered"
    if len(layers_of(after)) > 5:
        yield "more than five layers"
    old, new = variables_of(before), variables_of(after)
    for name in old.keys() | new.keys():
        if name not in _CHANGED_BY_US and old.get(name) != new.get(name):
            yield f"the variable {name} was lost or changed"
    asked = write.call.parameters.keys() - {"FunctionName", "RevisionId", "Layers", "Environment"}
    if asked:
        yield f"more was sent than ours: {sorted(asked)}"


def _removal(write: Write) -> Iterator[str]:
    """What is removed is ours, and what comes back was there."""
    old, new = variables_of(write.before), variables_of(write.after)
    for name in _CHANGED_BY_US:
        value = old.get(name, "")
        if name in old and name not in new and not value.startswith(("/opt/twistlock/", "s3cret-policy-")):
            yield f"the variable {name} is its owner's, and was removed"
    if len(of_us(layers_of(write.after))) > len(of_us(layers_of(write.before))):
        yield "a removal added a layer"


def _ends_well(judge: Judge, run: Run) -> Iterator[str]:
    """Every run leaves a report; one that can't begin says why in one line, and has changed nothing."""
    if run.ended == "killed" or run.summary is not None:
        missing = run.summary["files_missing"] if run.summary else {}
        if missing and not run.faults:
            yield f"files are missing: {missing}"
        return
    if judge.writes_of(run):
        yield f"it has changed functions and left no report: {run.ended}"
    if (
        run.weather.fair
        and not (run.ended.startswith("GuardStop") and "lock" in run.ended)
        and run.kind == "run"
    ):
        yield f"no report: {run.ended}"


def _has_a_cause(judge: Judge, run: Run) -> Iterator[str]:
    """A guard stops a run where there is a cause for it."""
    stopped = run.summary["stopped_by"] if run.summary else None
    now = run.started
    recent = [at for at in judge.regressions if now - at < timedelta(hours=HEALTH_HOURS + 1)]
    known = {
        None: True,
        **dict.fromkeys(_SPREAD, True),
        "kill_switch": run.stopped,
        "health": len(recent) > 3 or bool(judge.life.bad_versions),
        "lock": run.weather.overlaps or run.weather.frozen_at is not None or bool(run.weather.offset),
        "memory": run.weather.frozen_at is not None,  # its state files are the next run's by now
        "stop_after_failure_pct": bool(judge.core.denials),
    }
    if not known.get(stopped, False) and not run.faults:
        yield f"it was stopped by {stopped}, without a cause"


def _journal(judge: Judge, run: Run) -> list[dict[str, Any]]:
    folder = judge.operations.store.root / "journals" / run.run_id
    files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def _journal_agrees(judge: Judge, run: Run) -> Iterator[str]:
    """Each write has its intent; each outcome that says so, its write."""
    lines = _journal(judge, run)
    intents = {line["id"]: line for line in lines if line["event"] == "intent"}
    announced = {(one["function_arn"], one["revision_id"]) for one in intents.values()}
    writes = judge.writes_of(run)
    for write in writes:
        before = write.before or {}
        if before["LastUpdateStatus"] != "Failed" and (write.arn, before["RevisionId"]) not in announced:
            yield f"{write.arn} was written without an intent"
    written = {write.arn for write in writes}
    for line in lines:
        done = line["event"] == "outcome" and line["outcome"] in {"changed", "rolled_back"}
        if done and intents[line["id"]]["function_arn"] not in written and run.fair:
            yield f"{intents[line['id']]['function_arn']} is {line['outcome']} in the journal, and was not written"


def _rows(judge: Judge, run: Run, name: str) -> list[dict[str, str]]:
    path = (
        judge.operations.store.root
        / f"runs/{run.run_id[:4]}/{run.run_id[4:6]}/{run.run_id[6:8]}/{run.run_id}/{name}.csv"
    )
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _changes_agree(judge: Judge, run: Run) -> Iterator[str]:
    """changes.csv says what was written, and nothing else."""
    if not run.fair:
        return
    ends = {row["function_arn"]: row for row in _rows(judge, run, "changes")}
    for write in judge.writes_of(run):
        if write.arn not in ends:
            yield f"{write.arn} was written and is not in changes.csv"
    for arn, row in ends.items():
        function = judge.core.function(arn)
        if function is None:
            continue
        now = carries(function.configuration, run.release)
        if row["action"] == "remove":
            if row["outcome"] == "changed" and of_us(layers_of(function.configuration)):
                yield f"{arn} is changed in changes.csv, and keeps our layer"
            continue
        if row["outcome"] == "changed" and not now:
            yield f"{arn} is changed in changes.csv, and does not carry the desired state"
        if row["outcome"] in {"failed", "dropped"} and now and row["action"] != "rollback":
            yield f"{arn} is {row['outcome']} in changes.csv, and carries the desired state"


def _coverage_agrees(judge: Judge, run: Run) -> Iterator[str]:
    """functions.csv has every function that could be read, and knows which are protected.

    What a run could not change is reported as its sweep has read it.
    """
    if not run.fair or run.kind != "run":
        return
    rows = {row["function_arn"]: row for row in _rows(judge, run, "functions")}
    failed = {row["function_arn"] for row in _rows(judge, run, "changes") if row["outcome"] == "failed"}
    for arn, function in judge.core.functions.items():
        if not judge.reach.unit(arn.split(":")[4], arn.split(":")[3]):
            continue
        row = rows.get(arn)
        if row is None:
            yield f"{arn} is not in functions.csv"
        elif arn not in failed and (row["protection"] == "protected") != judge.shown(function, run):
            yield f"{arn} is reported as {row['protection']}"


def _waves_agree(judge: Judge, run: Run) -> Iterator[str]:
    """The counts of a wave that has not passed are how the last change of each of its functions ended."""
    if not run.fair or run.kind != "run" or run.summary is None:
        return
    for status, wave in zip(run.summary["waves"], judge.waves[run.release], strict=True):
        so = Counter(wave.ended.values())
        told = Counter({"changed": status["changed"], "failed": status["failed"]})
        if status["stage"] != "passed" and +told != +so:
            yield f"wave {status['name']}: {dict(told)} is reported, and {dict(so)} is so"


def _keeps_secrets(judge: Judge, run: Run) -> Iterator[str]:
    """No value of a variable is in a file."""
    root = judge.operations.store.root
    day = f"{run.run_id[:4]}/{run.run_id[4:6]}/{run.run_id[6:8]}"
    for folder in (root / f"runs/{day}/{run.run_id}", root / f"journals/{run.run_id}", root / "state"):
        for file in folder.rglob("*") if folder.is_dir() else ():
            if file.is_file() and b"s3cret" in file.read_bytes():
                yield f"{file.relative_to(root)} has a secret"


def _week_differs(summary: Mapping[str, Any], first: Seen, last: Seen) -> Iterator[str]:
    gained = len(last.protected - first.protected)
    if summary["newly_protected"] != gained:
        yield f"reports {summary['newly_protected']} newly protected, there were {gained}"


_RULES_OF_A_RUN: tuple[Callable[[Judge, Run], Iterator[str]], ...] = (
    _ends_well,
    _has_a_cause,
    _journal_agrees,
    _changes_agree,
    _coverage_agrees,
    _waves_agree,
    _keeps_secrets,
)
