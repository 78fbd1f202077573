"""Where the rollout stands, for whoever reads a run: its waves, how changed functions fare, and what drifts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from remediator.rollout.health import FunctionHealth, Verdict
from remediator.rollout.waves import WaveStatus

VERDICTS: tuple[Verdict, ...] = ("healthy", "regressed", "too_little_traffic", "unread")


@dataclass(frozen=True)
class DriftedFunction:
    """One function that lost the Defender since a run gave it.

    times: how often that happened. given_up: it is no longer protected again. tool: what deploys it, told from its
    tags, and snippet: what its owner puts in there; "" for what is not given up. detail: why there is no snippet.
    """

    function_arn: str
    times: int
    run_id: str
    at: str
    given_up: bool
    tool: str = ""
    snippet: str = ""
    detail: str = ""


@dataclass(frozen=True)
class RolloutStatus:
    """What a run that plans has found out besides verdicts."""

    waves: tuple[WaveStatus, ...] = ()
    health: tuple[FunctionHealth, ...] = ()
    drift: tuple[DriftedFunction, ...] = ()

    @property
    def regressed(self) -> Sequence[FunctionHealth]:
        """Give the functions that are worse off since their change."""
        return [one for one in self.health if one.verdict == "regressed"]

    def counts(self) -> dict[str, Any]:
        """Give what summary.json says: the waves, counts of functions, and those that regressed by name."""
        verdicts = Counter(one.verdict for one in self.health)
        regressed = [
            {"function_arn": one.function_arn, "run_id": one.run_id, "why": one.why} for one in self.regressed
        ]
        return {
            "waves": [asdict(wave) for wave in self.waves],
            "health": {
                "watched": len(self.health),
                **{verdict: verdicts[verdict] for verdict in VERDICTS},
                "regressed_functions": regressed,
            },
            "drift": {"lost": len(self.drift), "given_up": sum(one.given_up for one in self.drift)},
        }

    def as_dict(self) -> dict[str, Any]:
        """Give everything, as rollout.json has it."""
        return {field.name: [asdict(one) for one in getattr(self, field.name)] for field in fields(self)}

    def lines(self) -> list[str]:
        """Tell it in lines for a person: a line a wave, a line each for what regressed and what drifts."""
        told = [f"wave           {wave.name}: {wave.stage}, {wave.says}" for wave in self.waves]
        if self.health:
            verdicts = Counter(one.verdict for one in self.health)
            counts = ", ".join(
                f"{verdicts[verdict]:,} {verdict.replace('_', ' ')}"
                for verdict in VERDICTS
                if verdicts[verdict]
            )
            told.append(f"health         {len(self.health):,} changed lately: {counts}")
        if self.drift:
            given_up = sum(one.given_up for one in self.drift)
            told.append(f"drift          {len(self.drift):,} lost the Defender, {given_up:,} given up")
        return told
