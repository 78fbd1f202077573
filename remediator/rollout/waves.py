"""Waves: who goes first, and what must hold before the next may begin. Pure.

Only one wave is under way: the first that has not passed. Its functions are changed, and those of the waves before it;
all others wait. It is done changing once a sweep that read all of its units leaves nothing of it waiting; then it soaks,
and passes if it is in good health. Functions that no wave names come after the last.

A release is the digest of what is attached (Configuration.release): another layer version, wrapper or value is another
release, and begins with the first wave. state/waves.json has what each wave has been through under the last few releases;
nothing there means that it is all still to come.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from remediator.settings import WaveSettings
from remediator.state.wave_states import WaveState

Stage = Literal["passed", "open", "soaking", "held", "waiting"]


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
