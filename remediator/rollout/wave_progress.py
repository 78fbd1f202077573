"""The waves in one run: their status, whose functions may be changed, and what the run has done to that."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd

from remediator.change.records import Change
from remediator.journal.journals import Journals
from remediator.rollout.health import FunctionHealth
from remediator.rollout.wave_membership import UNKNOWN, accounts_of, read_tags, wave_numbers
from remediator.rollout.waves import (
    WaveObservation,
    WaveStatus,
    advance,
    current_wave,
    wave_statuses,
)
from remediator.settings import WaveSettings
from remediator.state.quarantine import quarantined
from remediator.state.wave_states import WaveObserved, WaveState, releases, states
from scanner.aws.caller import Aws
from scanner.core.arns import function_arns
from scanner.inventory.ledger import UNREAD
from scanner.inventory.tags import TagFlags
from scanner.settings import SweepSettings
from storage.protocol import Store

# New functions come all the time: a wave that soaked anew for each of them would never pass. This share of those changed.
_FEW = 0.05


@dataclass(frozen=True)
class WaveProgress:
    """The waves, each with its state and what this run observes of it; and each function's wave.

    release: under which the states are kept. numbers: of wave_membership.wave_numbers, one a row of the assessed frame.
    """

    release: str
    waves: tuple[WaveSettings, ...]
    states: tuple[WaveState, ...]
    seen: tuple[WaveObservation, ...]
    numbers: npt.NDArray[np.intp]
    now: datetime

    @property
    def status(self) -> tuple[WaveStatus, ...]:
        """Return the status of each wave."""
        return wave_statuses(self.waves, self.states, self.seen, self.now)

    def marked(self, assessed: pd.DataFrame) -> pd.DataFrame:
        """Return the assessed frame with the columns that make_plan reads: wave (name, "" for none), wave_waits and
        wave_next (bool: it waits, and its wave is the next).
        """  # noqa: D205
        if not self.waves:
            return assessed
        current = current_wave(self.states)
        # UNKNOWN takes the last place, by its number.
        names = np.array([*(wave.name for wave in self.waves), "", ""], dtype=object)
        waits = ((self.numbers > current) | (self.numbers == UNKNOWN)) & (current < len(self.waves))
        return assessed.assign(
            wave=names[self.numbers], wave_waits=waits, wave_next=waits & (self.numbers == current + 1)
        )

    def after(
        self,
        planned: Sequence[Change],
        changes: pd.DataFrame,
        *,
        stopped: bool,
        late: Mapping[str, int] = MappingProxyType({}),
    ) -> "WaveProgress":
        """Return the same with the current wave done where all that can be changed of it was planned, nothing stopped
        the run and nothing of the wave was deferred. A wave of which more than a few are changed after that soaks again.

        changes: the changes frame of the plan. late: by wave, how many functions wait for their notice and keep no wave
        open.
        """  # noqa: D205
        current = current_wave(self.states)
        if current == len(self.waves):
            return self
        arns = [change.function_arn for change in planned if change.wave == self.waves[current].name]
        ends = Counter(changes.loc[changes["function_arn"].isin(arns), "outcome"])
        seen, state = self.seen[current], self.states[current]
        all_planned = len(arns) + late.get(state.name, 0) >= seen.eligible
        complete = seen.functions and not seen.units_unread and all_planned
        through = complete and not stopped and "deferred" not in ends
        if not (ends["changed"] > _FEW * state.changed if state.done else through):
            return self
        done = replace(state, done=self.now.isoformat(timespec="seconds"))
        return replace(self, states=(*self.states[:current], done, *self.states[current + 1 :]))

    def keep(self, journals: Journals, run_id: str) -> "WaveProgress":
        """Write what this run has observed, beside the changes that were counted meanwhile, and return the result."""
        before = states(journals.store, self.release, self.waves)
        kept = tuple(
            replace(
                counted,
                healthy=state.healthy,
                done=state.done,
                passed=state.passed,
            )
            for counted, state in zip(before, self.states, strict=True)
        )
        # What release 0.1 left becomes this release's by a line of it.
        taken = any(one.release == self.release for one in releases(journals.store))
        observed = [
            WaveObserved(self.release, one.name, one.healthy, one.done, one.passed, one.regressed)
            for one, was in zip(kept, before, strict=True)
            if one != was or (not taken and one != WaveState(one.name))
        ]
        journals.record(run_id, observed)
        return replace(self, states=kept)


def observe_waves(
    assessed: pd.DataFrame,
    accounts: pd.DataFrame,
    units: pd.DataFrame,
    waves: tuple[WaveSettings, ...],
    aws: Aws,
    sweep: SweepSettings,
    *,
    store: Store,
    release: str,
    health: Sequence[FunctionHealth],
    held: Collection[str],
    now: datetime,
    deadline: float | None = None,
) -> WaveProgress:
    """Observe the waves, and let those pass that may. Reads only.

    assessed, accounts, units: the frames of this run's sweep. held: ARNs of what other guards hold back.
    Raises BadInput where state/waves.json is malformed.
    """
    before = tuple(states(store, release, waves))
    if all(state.passed for state in before):
        nobody = np.full(len(assessed), len(waves), dtype=np.intp)
        return WaveProgress(release, waves, before, tuple(WaveObservation() for _ in waves), nobody, now)
    # The line that puts one in quarantine has counted it.
    counted = {entry.function_arn for entry in quarantined(store) if entry.regressed}
    health = [one for one in health if one.verdict != "regressed" or one.function_arn not in counted]
    tagged = read_tags(assessed, waves, aws, sweep, deadline)
    numbers = wave_numbers(assessed, accounts, waves, tagged)
    free = (assessed["verdict"] == "eligible").to_numpy() & ~_named(assessed, held, aws.partition)
    unread = units[units["outcome"].isin(UNREAD)]
    seen = tuple(
        WaveObservation(
            functions=int((numbers == number).sum()),
            eligible=int(((numbers == number) & free).sum()),
            units_unread=_unread_of(wave, accounts, unread, assessed, tagged),
            healthy=_count_health(wave, health, "healthy"),
            regressed=_count_health(wave, health, "regressed"),
            unread=_count_health(wave, health, "unread"),
        )
        for number, wave in enumerate(waves)
    )
    return WaveProgress(release, waves, tuple(advance(waves, before, seen, now)), seen, numbers, now)


def _named(assessed: pd.DataFrame, arns: Collection[str], partition: str) -> npt.NDArray[np.bool_]:
    """Return of each row whether it is one of these functions."""
    found = np.zeros(len(assessed), dtype=bool)
    rows = np.flatnonzero(assessed["function_name"].isin([arn.rpartition(":")[2] for arn in arns]))
    found[rows] = function_arns(assessed.iloc[rows], partition).isin(list(arns))
    return found


def _unread_of(
    wave: WaveSettings,
    accounts: pd.DataFrame,
    unread: pd.DataFrame,
    assessed: pd.DataFrame,
    tagged: TagFlags,
) -> int:
    """Count the units that may hold functions of a wave and were not read; a tag may be anywhere."""
    if wave.tag is None:
        return int(unread["account_id"].isin(accounts_of(wave, accounts)).sum())
    tags_unread = assessed.loc[~tagged.read, ["account_id", "region"]].drop_duplicates()
    return len(unread) + len(tags_unread)


def _count_health(wave: WaveSettings, health: Sequence[FunctionHealth], verdict: str) -> int:
    return sum(one.wave == wave.name and one.verdict == verdict for one in health)
