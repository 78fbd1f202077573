"""What each wave has been through, by release: state/waves.json, folded from the journals.

Counts of changes come from the accounts' files: each account contributes what its functions amount to now.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import model_validator
from pydantic.dataclasses import dataclass as validated_dataclass

from remediator.settings import WaveSettings
from remediator.state.fields import MomentOrNone
from remediator.state.functions import Ended, Tallies, Tally, account_of
from remediator.state.order import NEVER, Event, Mark
from remediator.state.quarantine import Quarantined
from remediator.state.store import WAVES, load
from storage.protocol import Store

FORMAT = 3
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
    done: MomentOrNone = ""
    passed: MomentOrNone = ""
    accounts: Mapping[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True)
class WaveObserved:
    """What a run has observed of a wave under a release, in place of what is known.

    counted: what the release before marks has counted as changed and failed, where an upgrade takes that over.
    """

    release: str
    name: str
    healthy: int
    done: MomentOrNone
    passed: MomentOrNone
    regressed: int
    counted: Tally | None = None


@dataclass(frozen=True)
class Release:
    """The states of the waves under one release; release "": of release 0.1, which kept one state for all."""

    release: str
    waves: tuple[WaveState, ...]


@validated_dataclass(frozen=True)
class WavesFile:
    """The content of state/waves.json. releases: the one used last comes first. mark: of the last segment that counts."""

    format: int = FORMAT
    mark: Mark = NEVER
    releases: tuple[Release, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_release_0_1(cls, content: object) -> object:
        """Take what release 0.1 wrote: the states of one release, a list."""
        return {"releases": [{"release": "", "waves": content}]} if isinstance(content, list) else content


def read_waves(store: Store) -> WavesFile:
    """Return the file; BadInput where it is malformed, or of a newer format."""
    return load(store, WAVES, WavesFile, WavesFile(), FORMAT)


def releases(store: Store) -> tuple[Release, ...]:
    """Return the states of all releases that are kept, the one used last first.

    Raises BadInput where state/waves.json is malformed, or of a newer format.
    """
    return read_waves(store).releases


def states(store: Store, release: str, waves: Sequence[WaveSettings]) -> list[WaveState]:
    """Return the states of the configured waves under a release; BadInput where state/waves.json can't be used."""
    kept = releases(store)
    # What release 0.1 left is of the first release that is used after it.
    found = next((one for one in kept if one.release in {release, ""}), None)
    known = {state.name: state for state in found.waves} if found else {}
    return [known.get(wave.name, WaveState(wave.name)) for wave in waves]


def fold_waves(before: WavesFile, events: Iterable[Event], by_account: Mapping[str, Tallies]) -> WavesFile:
    """Return the file after events, in their order; those that it has already are skipped.

    by_account: what the files of the accounts that events are about amount to, after the same events.
    """
    known = {one.release: {state.name: _Wave(state) for state in one.waves} for one in before.releases}
    mark = before.mark
    for event in events:
        if event.mark > before.mark and _is_about(event.fact, known):
            known = _used(known, _release_of(event.fact))
            if isinstance(event.fact, WaveObserved):
                known[event.fact.release].setdefault(event.fact.name, _Wave()).observed(event.fact)
            elif isinstance(event.fact, Quarantined):
                known[event.fact.release].setdefault(event.fact.wave, _Wave()).regressed()
            elif account_id := account_of(event.fact):
                _contribute(known, account_id, by_account[account_id])
            mark = event.mark
    kept = tuple(Release(release, tuple(_states(waves))) for release, waves in known.items())
    return replace(before, format=FORMAT, mark=mark, releases=kept)


class _Wave:
    """A wave's state while events are folded; before: changed and failed of release 0.1."""

    def __init__(self, state: WaveState | None = None) -> None:
        self.state = state = state or WaveState("")
        self.accounts = dict(state.accounts)
        self.before = Tally(
            state.changed - sum(one.changed for one in self.accounts.values()),
            state.failed - sum(one.failed for one in self.accounts.values()),
        )

    def observed(self, fact: WaveObserved) -> None:
        self.state = replace(
            self.state,
            healthy=fact.healthy,
            done=fact.done,
            passed=fact.passed,
            regressed=fact.regressed,
        )
        self.before = fact.counted or self.before

    def regressed(self) -> None:
        self.state = replace(self.state, regressed=self.state.regressed + 1)

    def contribute(self, account_id: str, tally: Tally) -> None:
        self.accounts[account_id] = tally
        if tally == Tally():
            del self.accounts[account_id]

    def as_state(self, name: str) -> WaveState:
        return replace(
            self.state,
            name=name,
            changed=self.before.changed + sum(one.changed for one in self.accounts.values()),
            failed=self.before.failed + sum(one.failed for one in self.accounts.values()),
            accounts=self.accounts,
        )


_Known = dict[str, dict[str, _Wave]]


def _is_about(fact: object, known: _Known) -> bool:
    if isinstance(fact, WaveObserved) or _release_of(fact) is not None:
        return True
    return bool(known) and account_of(fact) is not None


def _release_of(fact: object) -> str | None:
    """Return the release that a fact is counted under, None where it is under none."""
    if isinstance(fact, WaveObserved):
        return fact.release
    if isinstance(fact, Quarantined) and fact.regressed and fact.wave:
        return fact.release or None
    if isinstance(fact, Ended) and fact.wave and fact.counts and fact.action not in {"remove", "rollback"}:
        return fact.release or None
    return None


def _used(known: _Known, release: str | None) -> _Known:
    """Put a release first, and drop those that were not used for long; the first after release 0.1 takes its states."""
    if release is None:
        return known
    former = known.pop("", {})
    waves = known.pop(release, former)
    return dict([(release, waves), *known.items()][:_KEPT_RELEASES])


def _contribute(known: _Known, account_id: str, now: Tallies) -> None:
    for release, waves in known.items():
        names = {name for of_release, name in now if of_release == release}
        for name in names | {name for name, wave in waves.items() if account_id in wave.accounts}:
            waves.setdefault(name, _Wave()).contribute(account_id, now.get((release, name), Tally()))


def _states(waves: Mapping[str, _Wave]) -> Iterator[WaveState]:
    """Yield the states in the order of their names, without those that say nothing."""
    for name in sorted(waves):
        state = waves[name].as_state(name)
        if state != WaveState(name):
            yield state
