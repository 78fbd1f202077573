"""The risk engine: every check on every function at once, and the verdict that follows."""

from collections.abc import Mapping
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.core.categories import by_category
from scanner.risk.catalogue import CHECKS
from scanner.risk.checks import env_tight, to_remove
from scanner.risk.protection import PROTECTIONS, DefenderMatch, Flags
from scanner.risk.rules import Rules
from scanner.risk.runtimes import blocked_soon

BLOCKED_SOON = "runtime_blocked_soon"
VERDICTS = ("protected", "eligible", "skipped", "excluded")
_PROTECTED, _ELIGIBLE, _SKIPPED, _EXCLUDED = range(4)
_UNPROTECTED = PROTECTIONS.index("unprotected")
_POLICY_BITS = sum(1 << bit for bit, check in enumerate(CHECKS) if check.kind == "policy")


def assess_risk(functions: pd.DataFrame, rules: Rules, today: date) -> pd.DataFrame:
    """Return a functions frame (functions_frame.py) with the verdict on each function.

    Adds: family (category, "" where no layer of ours fits), protection, installed (bool: our layer and our wrapper are
    both there, in whatever version), remove (bool: it carries something of ours that an opt-out says to remove), env_tight (bool: with our variables, less than 5 % of the 4 KB is left), verdict,
    reasons (categories; codes of the failed checks in the catalogue's order, joined by ";", "" for a protected
    function), warnings (category; "runtime_blocked_soon" or "") and fails_<code> (bool), one a check. The frame's own
    columns are shared, not copied.
    """
    match = DefenderMatch(functions, rules)
    failed = {check.code: check.fails(match, today) for check in CHECKS}
    mask = _mask(failed, len(functions))
    protection = match.protection
    verdict = np.full(len(functions), _ELIGIBLE, dtype=np.int8)
    verdict[mask != 0] = _SKIPPED
    verdict[(mask & _POLICY_BITS) != 0] = _EXCLUDED
    verdict[protection == _PROTECTED] = _PROTECTED
    mask[verdict == _PROTECTED] = 0
    return functions.assign(
        family=pd.Categorical.from_codes((match.family + 1).astype(np.int8), ["", *match.families]),
        protection=pd.Categorical.from_codes(protection, list(PROTECTIONS)),
        installed=match.installed,
        remove=to_remove(match, today) & (protection != _UNPROTECTED),
        env_tight=env_tight(match),
        verdict=pd.Categorical.from_codes(verdict, list(VERDICTS)),
        reasons=_reasons(mask),
        warnings=_warnings(functions["runtime"], today),
        **{f"fails_{code}": flags for code, flags in failed.items()},
    )


def _mask(failed: Mapping[str, Flags], rows: int) -> npt.NDArray[np.int32]:
    """Return a bit a failed check, in the catalogue's order, for each row."""
    mask, bits = np.zeros(rows, dtype=np.int32), np.empty(rows, dtype=np.int32)
    for bit, flags in enumerate(failed.values()):
        if flags.any():
            mask |= np.left_shift(flags, bit, out=bits, dtype=np.int32)
    return mask


def _reasons(mask: npt.NDArray[np.int32]) -> pd.Categorical:
    """Return the reasons; each distinct set of failed checks is named once: a million rows have a few hundred."""
    codes, sets = pd.factorize(mask)
    names = [
        ";".join(check.code for bit, check in enumerate(CHECKS) if reasons >> bit & 1)
        for reasons in sets.tolist()
    ]
    return pd.Categorical.from_codes(codes, names)


def _warnings(runtime: pd.Series, today: date) -> pd.Categorical:
    """Return the warnings: a function can't be rolled back once AWS blocks updates of its runtime."""
    soon = [blocked_soon(text, today) for text in runtime.cat.categories]
    return pd.Categorical.from_codes(by_category(runtime, soon, np.int8, 0), ["", BLOCKED_SOON])
