"""Waves: who goes first, and what must hold before the next may begin. Pure, apart from the state file.

Only one wave is under way: the first that has not passed. Its functions are changed, and those of the waves before it;
all others wait. It is done changing once a sweep that read all of its units leaves nothing of it waiting; then it soaks,
and passes if it is in good health. Functions that no wave names come after the last.

A release is the digest of what is attached (Configuration.release): another layer version, wrapper or value is another
release, and begins with the first wave. state/waves.json has what each wave has been through under the last few releases;
nothing there means that it is all still to come.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass as validated_dataclass

from remediator.journal.functions import Tally
from remediator.journal.store import WAVES, load, save
from remediator.settings import WaveSettings
from storage.protocol import Store

Stage = Literal["passed", "open", "soaking", "held", "waiting"]
_FORMAT = 2
# Going back a version, and a few values rotated meanwhile.
_KEPT_RELEASES = 5


@dataclass(frozen=True)
class WaveState:
    """The state of a wave: how many of its functions were changed, failed and regressed; the most of them that were
    seen healthy at once; when it was done changing and when it passed (ISO 8601, UTC; "" not yet).

    accounts: what each account has contributed to changed and failed; the rest is what release 0.1 has counted.
    """  # noqa: D205

    name: str
    changed: int = 0
    failed: int = 0
    regressed: int = 0
    healthy: int = 0
    done: str = ""
    passed: str = ""
    accounts: Mapping[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True)
class WaveObservation:
    """What a run observes of a wave: its functions, those that can be changed, its units not read, and how those that
    are watched fare: healthy, regressed, unread (their metrics could not be read).
    """  # noqa: D205

    functions: int = 0
    eligible: int = 0
    units_unread: int = 0
    healthy: int = 0
    regressed: int = 0
    unread: int = 0


@dataclass(frozen=True)
class WaveStatus:
    """The status of a wave, with the counts of its state. says: what it waits for, in words."""

    name: str
    stage: Stage
    says: str
    functions: int
    eligible: int
    changed: int
    failed: int
    regressed: int
    healthy: int


@dataclass(frozen=True)
class Release:
    """The states of the waves under one release; release "": of release 0.1, which kept one state for all."""

    release: str
    waves: tuple[WaveState, ...]


@validated_dataclass(frozen=True)
class _Document:
    """The content of state/waves.json. releases: the one used last comes first."""

    format: int = _FORMAT
    releases: tuple[Release, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_release_0_1(cls, content: object) -> object:
        """Take what release 0.1 wrote: the states of one release, a list."""
        return {"releases": [{"release": "", "waves": content}]} if isinstance(content, list) else content


def releases(store: Store) -> tuple[Release, ...]:
    """Return the states of all releases that are kept, the one used last first.

    Raises BadInput where state/waves.json is malformed, or of a newer format.
    """
    return load(store, WAVES, _Document, _Document(), _FORMAT).releases


def states(store: Store, release: str, waves: Sequence[WaveSettings]) -> list[WaveState]:
    """Return the states of the configured waves under a release; BadInput where state/waves.json can't be used."""
    known = _known(releases(store), release)
    return [known.get(wave.name, WaveState(wave.name)) for wave in waves]


def _known(kept: Sequence[Release], release: str) -> dict[str, WaveState]:
    """Return a release's states by wave. What release 0.1 left is of the first release that writes states again."""
    found = next((one for one in kept if one.release in {release, ""}), None)
    return {state.name: state for state in found.waves} if found else {}


def keep(store: Store, release: str, changed: Iterable[WaveState]) -> None:
    """Write states under a release; those of waves that are no longer configured stay, in case they return."""
    kept = releases(store)
    known = _known(kept, release) | {state.name: state for state in changed}
    others = [one for one in kept if one.release not in {release, ""}]
    newest = (Release(release, tuple(known.values())), *others)[:_KEPT_RELEASES]
    save(store, WAVES, asdict(_Document(_FORMAT, newest)))


def advance(
    waves: Sequence[WaveSettings], before: Sequence[WaveState], seen: Sequence[WaveObservation], now: datetime
) -> list[WaveState]:
    """Let waves pass that have soaked and are healthy, in their order. before, seen: one a wave."""
    after = []
    open_yet = True
    for wave, was, found in zip(waves, before, seen, strict=True):
        state = replace(was, healthy=max(was.healthy, found.healthy))
        if open_yet and not state.passed and not _waits_for(wave, state, found, now):
            state = replace(state, passed=now.isoformat(timespec="seconds"))
        open_yet = open_yet and bool(state.passed)
        after.append(state)
    return after


def current_wave(after: Sequence[WaveState]) -> int:
    """Return the number of the current wave; the number of waves once all have passed."""
    return next((number for number, state in enumerate(after) if not state.passed), len(after))


def wave_statuses(
    waves: Sequence[WaveSettings], after: Sequence[WaveState], seen: Sequence[WaveObservation], now: datetime
) -> tuple[WaveStatus, ...]:
    """Return the status of each wave."""
    current = current_wave(after)
    return tuple(
        _status(number - current, waves[number], after[number], seen[number], now)
        for number in range(len(waves))
    )


def _status(
    place: int, wave: WaveSettings, state: WaveState, seen: WaveObservation, now: datetime
) -> WaveStatus:
    stage, says = _stage(place, wave, state, seen, now)
    return WaveStatus(
        wave.name,
        stage,
        says,
        seen.functions,
        seen.eligible,
        state.changed,
        state.failed,
        state.regressed,
        state.healthy,
    )


def _stage(
    place: int, wave: WaveSettings, state: WaveState, seen: WaveObservation, now: datetime
) -> tuple[Stage, str]:
    if place < 0:
        return "passed", f"passed on {state.passed}"
    if place > 0:
        return "waiting", "waits for the waves before it"
    if not state.done:
        return "open", _waits_for(wave, state, seen, now)
    return ("soaking" if now < _soaked(wave, state) else "held"), _waits_for(wave, state, seen, now)


def _waits_for(wave: WaveSettings, state: WaveState, seen: WaveObservation, now: datetime) -> str:
    """Return what keeps a wave from passing, "" where nothing does."""
    if not state.done:
        return _not_done(seen)
    if now < _soaked(wave, state):
        return f"soaks until {_soaked(wave, state).isoformat(timespec='minutes')}"
    return _unhealthy(wave, state, seen)


def _not_done(seen: WaveObservation) -> str:
    if not seen.functions and not seen.units_unread:
        return "no function of it was seen; fix rollout.waves"
    if seen.units_unread:
        return f"{seen.units_unread} of its account-regions could not be read"
    return f"{seen.eligible} of its functions are to be changed"


def _soaked(wave: WaveSettings, state: WaveState) -> datetime:
    return datetime.fromisoformat(state.done) + timedelta(hours=wave.soak_hours)


def _unhealthy(wave: WaveSettings, state: WaveState, seen: WaveObservation) -> str:
    tried = state.changed + state.failed
    if 100 * state.failed > wave.max_failed_pct * tried:
        return f"{state.failed} of {tried} functions failed, more than {wave.max_failed_pct:g} %"
    regressed = state.regressed + seen.regressed
    if 100 * regressed > wave.max_regressed_pct * state.changed:
        return f"{regressed} of {state.changed} functions regressed, more than {wave.max_regressed_pct:g} %"
    if seen.unread:
        return f"the metrics of {seen.unread} of its functions could not be read"
    if state.changed and state.healthy < wave.min_healthy:
        return (
            f"{state.healthy} of its functions were seen healthy, fewer than {wave.min_healthy}; "
            "where they have too little traffic to tell, lower its min_healthy"
        )
    return ""


def count_changes(store: Store, release: str, tallies: Mapping[str, Mapping[str, Tally]]) -> None:
    """Replace what accounts had contributed to the counts of a release's waves. tallies: by account and wave."""
    known = _known(releases(store), release)
    waves = known.keys() | {wave for of_account in tallies.values() for wave in of_account}
    counted = [_with_tallies(known.get(wave, WaveState(wave)), tallies) for wave in sorted(waves)]
    if changed := [state for state in counted if state != known.get(state.name)]:
        keep(store, release, changed)


def _with_tallies(state: WaveState, tallies: Mapping[str, Mapping[str, Tally]]) -> WaveState:
    now = {account_id: waves.get(state.name, Tally()) for account_id, waves in tallies.items()}
    before = [state.accounts.get(account_id, Tally()) for account_id in now]
    accounts = {account_id: one for account_id, one in {**state.accounts, **now}.items() if one != Tally()}
    return replace(
        state,
        changed=state.changed + sum(one.changed for one in now.values()) - sum(one.changed for one in before),
        failed=state.failed + sum(one.failed for one in now.values()) - sum(one.failed for one in before),
        accounts=accounts,
    )
