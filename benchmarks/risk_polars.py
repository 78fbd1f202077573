"""The same rules in polars: one lazy query over all cores, with look-ups by category where strings are long."""

import fnmatch
import re
from collections import defaultdict
from datetime import date

import pandas as pd
import polars as pl

from scanner.inventory.functions_frame import measured_bytes
from scanner.risk import runtimes
from scanner.risk.catalogue import CHECKS
from scanner.risk.rules import Rules
from scanner.settings import EXEC_WRAPPER

_FAMILY = {"python": re.compile(r"python3\.([0-9]+)"), "nodejs": re.compile(r"nodejs([0-9]+)\.x")}
_OLDEST = {"python": 8, "nodejs": 10}
_POLICIES = ("opted_out", "tag_required", "exclusion_list", "quarantined")


def to_polars(functions: pd.DataFrame) -> pl.DataFrame:
    """The same frame in polars' own memory; not timed."""
    columns = {}
    for name, column in functions.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes = pl.Series(column.cat.codes.to_numpy().astype("uint32"))
            columns[str(name)] = codes.cat.to(pl.Enum(column.cat.categories.tolist()))
        else:
            columns[str(name)] = pl.Series(column.tolist() if column.dtype == "str" else column.to_numpy())
    return pl.DataFrame(columns)


def assess_polars(functions: pl.DataFrame, rules: Rules, today: date) -> pl.DataFrame:
    """Add protection, verdict, reasons and a column per check."""
    family = _by_category(
        functions, "runtime", [_family(text, rules) for text in functions["runtime"].dtype.categories]
    )
    prepared = functions.lazy().with_columns(
        family=family, layer=_layer(functions, family, rules), our_wrapper=_wrapped(functions, family, rules)
    )
    checked = prepared.with_columns(
        **{f"fails_{code}": fails for code, fails in _fails(functions, rules, today).items()}
    )
    mask = pl.sum_horizontal(
        pl.col(f"fails_{check.code}").cast(pl.Int32) * (1 << bit) for bit, check in enumerate(CHECKS)
    )
    layer, wrapped = pl.col("layer"), pl.col("our_wrapper")
    policy = pl.any_horizontal(pl.col(f"fails_{code}") for code in _POLICIES)
    complete = wrapped & _complete(functions, rules)
    protected = complete & (layer == 2) & (pl.col("env_different").cast(pl.String) == "")
    result = checked.with_columns(
        protection=pl.when(protected).then(pl.lit("protected")).when(complete & (layer == 1)).then(pl.lit("outdated"))
        .when(complete & (layer == 3)).then(pl.lit("ahead"))
        .when(wrapped | (layer > 0)).then(pl.lit("partial")).otherwise(pl.lit("unprotected"))
        .cast(pl.Enum(["protected", "outdated", "partial", "unprotected", "ahead"])),
        verdict=pl.when(protected).then(pl.lit("protected")).when(policy).then(pl.lit("excluded"))
        .when(mask != 0).then(pl.lit("skipped")).otherwise(pl.lit("eligible"))
        .cast(pl.Enum(["protected", "eligible", "skipped", "excluded"])),
        mask=pl.when(protected).then(0).otherwise(mask),
    ).collect()  # fmt: skip
    return result.with_columns(reasons=_reasons(result["mask"]))


def _reasons(masks: pl.Series) -> pl.Series:
    distinct = masks.unique()
    names = [";".join(check.code for bit, check in enumerate(CHECKS) if mask >> bit & 1) for mask in distinct]
    return masks.replace_strict(distinct, pl.Series(range(len(names)), dtype=pl.UInt32)).cat.to(
        pl.Enum(names)
    )


def _by_category(functions: pl.DataFrame, column: str, values: list[object]) -> pl.Series:
    return pl.Series(values).gather(functions[column].to_physical())


def _family(runtime: str, rules: Rules) -> int:
    for code, family in enumerate(rules.defender.layers):
        match = _FAMILY[family].fullmatch(runtime)
        if match and int(match[1]) >= _OLDEST[family]:
            return code
    return -1


def _layer(functions: pl.DataFrame, family: pl.Series, rules: Rules) -> pl.Series:
    categories, state = (
        functions["layers"].dtype.categories,
        pl.zeros(len(functions), dtype=pl.Int8, eager=True),
    )
    for code, template in enumerate(rules.defender.layers.values()):
        identity, _, wanted = template.rpartition(":")
        pattern = re.escape(identity).replace(r"\{region\}", "[a-z0-9-]+")
        version = categories.str.extract(rf"(?:^| ){pattern}:(\d{{1,9}})(?: |$)").cast(pl.Int32)
        states = pl.select(
            pl.when(version.is_null())
            .then(0)
            .when(version == int(wanted))
            .then(2)
            .when(version > int(wanted))
            .then(3)
            .otherwise(1)
            .cast(pl.Int8)
        )
        found = states.to_series().gather(functions["layers"].to_physical())
        state = found.zip_with(family == code, state)
    return state


def _wrapped(functions: pl.DataFrame, family: pl.Series, rules: Rules) -> pl.Series:
    wrapper, known = functions["exec_wrapper"], [rules.defender.wrapper_for(f) for f in rules.defender.layers]
    ours = wrapper.cast(pl.String).is_in(known) & (family == -1)
    for code, path in enumerate(known):
        ours |= (wrapper == path) & (family == code) if path in wrapper.dtype.categories else False
    return ours & _has_wrapper(functions)


def _complete(functions: pl.DataFrame, rules: Rules) -> pl.Expr:
    wanted = rules.defender.variable_names
    every = [set(text.split(";")).issuperset(wanted) for text in functions["env_names"].dtype.categories]
    fits = pl.col("architecture").cast(pl.String).is_in(list(rules.risk.architectures))
    return pl.lit(_by_category(functions, "env_names", list(every))) & fits


def _has_wrapper(functions: pl.DataFrame) -> pl.Series:
    present = [EXEC_WRAPPER in text.split(";") for text in functions["env_names"].dtype.categories]
    return _by_category(functions, "env_names", list(present))


def _fails(functions: pl.DataFrame, rules: Rules, today: date) -> dict[str, pl.Expr | pl.Series]:
    risk, col = rules.risk, pl.col
    runtimes_here = functions["runtime"].dtype.categories
    allowed = [code for code, family in enumerate(rules.defender.layers) if family in risk.runtime_families]
    known = _by_category(
        functions, "runtime", [runtimes.lifecycle(text) is not None for text in runtimes_here]
    )
    blocked = _by_category(
        functions, "runtime", [runtimes.update_blocked(text, today) for text in runtimes_here]
    )
    kinds = [
        bool({k for k in text.split(";") if k} - set(risk.allowed_kinds))
        for text in functions["kinds"].dtype.categories
    ]
    return {
        "package_type": col("package_type").cast(pl.String) != "Zip",
        "architecture": ~col("architecture").cast(pl.String).is_in(list(risk.architectures)),
        "runtime": ~(col("family").is_in(allowed) & known),
        "runtime_update_blocked": blocked,
        "memory": col("memory_mb") <= risk.min_memory_mb,
        "timeout": ~col("timeout_sec").is_between(0, 900 - risk.timeout_buffer_sec, closed="left"),
        "layers": (col("layer_count") < 0) | ((col("layer") == 0) & (col("layer_count") >= risk.max_layers)),
        "code_size": ~col("code_size_bytes").is_between(
            0, risk.zipped_size_threshold_mb * 1024 * 1024, closed="left"
        ),
        "wrapper_conflict": pl.lit(_has_wrapper(functions)) & ~col("our_wrapper"),
        "env_unreadable": ~col("env_readable"),
        "env_overflow": col("env_bytes") + col("env_growth") + _added(functions, rules) > 4096,
        "memory_utilization": _over("memory_utilization_pct", rules),
        "timeout_utilization": _over("timeout_utilization_pct", rules),
        "edge_replica": col("edge_replica"),
        "function_kind": _by_category(functions, "kinds", list(kinds)),
        "state": ~col("state").cast(pl.String).is_in(["", "Active", "Inactive"])
        | ~col("last_update_status").cast(pl.String).is_in(["", "Successful"]),
        "code_signing": col("signed"),
        "opted_out": _opted_out(rules, today),
        "tag_required": ~(col("required_tag") & col("tags_read")) if rules.require_tag else pl.lit(False),
        "exclusion_list": _names(rules.exclusion_list),
        "quarantined": _quarantined(functions, rules),
        "variable_conflict": (col("env_different").cast(pl.String) != "")
        & (col("layer") == 0)
        & (col("family") >= 0),
    }


def _added(functions: pl.DataFrame, rules: Rules) -> pl.Expr:
    """Constant by the names present and the family, and the function's name as often as it occurs in them."""
    added: pl.Expr = pl.lit(0)
    for code, family in enumerate(rules.defender.layers):
        ours = rules.defender.variables_for(family, "{function_name}", "{region}", "0" * 12)
        fixed, by_name = [], []
        for present in functions["env_names"].dtype.categories:
            missing = {name: value for name, value in ours.items() if name not in present.split(";")}
            text = "".join(missing.values())
            if "{region}" in text:
                raise NotImplementedError("no {region} in the benchmark's variables")
            by_name.append(text.count("{function_name}"))
            fixed.append(
                sum(measured_bytes({k: v}) - 1 for k, v in missing.items())
                - by_name[-1] * len("{function_name}")
            )
        size = pl.lit(_by_category(functions, "env_names", list(fixed)))
        size += (
            pl.lit(_by_category(functions, "env_names", list(by_name)))
            * pl.col("function_name").str.len_chars()
        )
        added = pl.when(pl.col("family") == code).then(size).otherwise(added)
    return added - ((pl.col("env_bytes") == 2) & (added > 0)).cast(pl.Int64)


def _over(column: str, rules: Rules) -> pl.Expr:
    used = rules.risk.utilization
    over = pl.col(column).is_not_nan() & (pl.col(column) > used.threshold_pct)
    unmeasured = pl.col(column).is_nan() if used.when_unmeasured == "skip" else pl.lit(False)
    return (over | unmeasured) if used.enabled else pl.lit(False)


def _names(globs: tuple[str, ...]) -> pl.Expr:
    name = pl.col("function_name")
    patterns = [_regex(glob) for glob in globs if set(glob) & set("*?[")]
    plain = name.is_in([glob for glob in globs if not set(glob) & set("*?[")])
    return plain | name.str.contains("|".join(patterns)) if patterns else plain


def _regex(glob: str) -> str:
    return "^" + fnmatch.translate(glob).removeprefix("(?s:").removesuffix(r")\z").removesuffix(r")\Z") + "$"


def _opted_out(rules: Rules, today: date) -> pl.Expr:
    accounts = defaultdict(list)
    for entry in rules.optouts.entries:
        if entry.in_force(today):
            if entry.account == "*" or entry.regions or entry.functions is None:
                raise NotImplementedError("the benchmark's opt-outs name an account and functions")
            accounts[entry.functions].append(entry.account)
    by_file = [
        pl.col("account_id").cast(pl.String).is_in(some) & _names(globs) for globs, some in accounts.items()
    ]
    by_tag = [pl.col("optout_tag") | ~pl.col("tags_read")] if rules.optout_tag else []
    return pl.any_horizontal(*by_file, *by_tag, pl.lit(False))


def _quarantined(functions: pl.DataFrame, rules: Rules) -> pl.Series:
    arns = [arn.split(":") for arn in rules.quarantined]
    place = ["account_id", "region", "function_name"]
    away = pl.DataFrame([[arn[4], arn[3], arn[6]] for arn in arns], schema=place, orient="row")
    some = (
        functions.select(place)
        .with_row_index()
        .filter(pl.col("function_name").is_in(away["function_name"].to_list()))
    )
    rows = some.with_columns(pl.col(place[:2]).cast(pl.String)).join(away, on=place, how="semi")["index"]
    flags = pl.repeat(False, len(functions), eager=True)
    return flags.scatter(rows, True)
