"""What happens: owners, policies, releases, accounts, machines. All of it is drawn from the seed, hour by hour."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from random import Random
from typing import Any

from simulator.calls import Call
from simulator.core import HOME, Core, Denial
from simulator.observability import Datapoints, MetricQuery
from simulator.state import Function
from tests.months import organization as org
from tests.months.clocks import Time

Action = Callable[[], None]
PILOT = (org.account_id(0), org.account_id(1))
WAVES = ("pilot", "dev", "prod")
SOAK_HOURS, HEALTH_HOURS = 3, 4
ACCOUNT_LIMIT, RUN_LIMIT = 6, 40
QUIET = timedelta(minutes=10)
_MEDDLES = 0.01
_NIGHT = range(1, 6)


@dataclass(frozen=True)
class Release:
    """What the configuration attaches: a layer version, a value of TW_POLICY, a wrapper."""

    version: int
    policy: int
    wrapper: str = "/opt/twistlock/wrapper"

    @property
    def variables(self) -> dict[str, str]:
        return {org.WRAPPER: self.wrapper, org.POLICY: f"s3cret-policy-{self.policy}"}


@dataclass(frozen=True)
class OptOut:
    """An entry of the opt-out file."""

    account: str
    functions: str
    expires: date
    remove: bool = False

    def covers(self, function: Function, today: date) -> bool:
        account, name = function.arn.split(":")[4], function.arn.split(":")[6]
        named = self.account in ("*", account) and fnmatchcase(name, self.functions)
        return named and today <= self.expires


@dataclass(frozen=True)
class Weather:
    """What goes wrong in one run. dies_at, frozen_at: steps; network, store: percent; offset: of its machine's clock;
    overlaps: it begins while another one stands still.
    """

    dies_at: int | None = None
    frozen_at: int | None = None
    network: float = 0.0
    store: float = 0.0
    offset: timedelta = timedelta()
    overlaps: bool = False

    @property
    def fair(self) -> bool:
        return self == Weather()


@dataclass
class Asked:
    """What the operators are to do at an hour, beside the hourly run."""

    rollbacks: list[str] = field(default_factory=list)  # run, account, wave, all, or an ARN
    retry: bool = False
    release: bool = False
    restore: bool = False


class Life:
    """The organization and all that happens to it. `log` says what; `counts` how often."""

    def __init__(self, seed: int, *, accounts: int, functions: int, start: datetime) -> None:
        self.rng = Random(f"life {seed}")
        self.seed = seed
        self.time = Time(start)
        self.start = start
        self.core = Core(self.time, seed=seed)
        self.core.cloudwatch.metric_data = self._metrics
        self.core.settle_seconds = self._settle_seconds
        self.functions_each = functions
        self.joined = accounts
        org.settle(self.core, self.rng, accounts, functions)
        self.release = Release(4, 1)
        self.releases = [self.release]
        self.bad_versions: set[int] = set()
        self.optouts: list[OptOut] = []
        self.stopped = False
        self.asked = Asked()
        self.log: list[str] = []
        self.counts: Counter[str] = Counter()
        self._later: list[tuple[datetime, Action]] = []
        self._numbers = 1_000
        self._points: dict[tuple[datetime, datetime, int], list[datetime]] = {}

    # The hours

    def hour(self) -> None:
        """Let an hour pass, up to the next full one."""
        now = self.time.now()
        end = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        self.asked = Asked()
        due = [item for item in self._later if item[0] < end]
        self._later = [item for item in self._later if item[0] >= end]
        drawn = [(self._moment(now, end), action) for action in self._draw()]
        for at, action in sorted([*due, *drawn], key=lambda item: item[0]):
            self._pass_to(at)
            action()
        self._pass_to(end)

    def weather(self) -> Weather:
        """Draw what goes wrong in the next run."""
        rng = self.rng
        if rng.random() < 0.75:
            return Weather()
        match rng.choice(["die", "die", "freeze", "network", "network", "store", "clock"]):
            case "die":
                return Weather(dies_at=rng.randint(1, rng.choice([40, 400, 700])))
            case "freeze":
                return Weather(frozen_at=rng.randint(20, 500))
            case "network":
                return Weather(network=rng.choice([1.0, 3.0]))
            case "store":
                return Weather(store=rng.choice([1.0, 4.0]))
            case _:
                return Weather(offset=timedelta(minutes=rng.choice([-90, -4, -1, 1, 4, 90])))

    def misses_a_run(self) -> bool:
        """Return whether the scheduler does not start this hour's run."""
        return self.rng.random() < 0.02

    def _moment(self, now: datetime, end: datetime) -> datetime:
        return now + self.rng.random() * (end - now)

    def _pass_to(self, at: datetime) -> None:
        self.time.pass_until((at - self.start).total_seconds())

    def _after(self, hours: float, action: Action) -> None:
        self._later.append((self.time.now() + timedelta(hours=hours), action))

    def _happens(self, what: str, subject: str = "") -> None:
        self.counts[what] += 1
        self.log.append(f"{self.time.now():%Y-%m-%d %H:%M} {what} {subject}")

    def _draw(self) -> list[Action]:
        """Draw what happens in an hour."""
        often = {
            self._owner_acts: len(self.core.functions) / 150,
            self._deny: 1 / 60,
            self._refuse_key: 1 / 30,
            self._fail_next: 1 / 20,
            self._hide: 1 / 110,
            self._new_version: 1 / 200,
            self._rotate: 1 / 250,
            self._other_wrapper: 1 / 700,
            self._opt_out: 1 / 80,
            self._join: 1 / 400,
            self._leave: 1 / 600,
            self._suspend: 1 / 240,
            self._enable_region: 1 / 300,
            self._ask_rollback: 1 / 110,
            self._ask_retry: 1 / 90,
            self._ask_release: 1 / 60,
            self._ask_restore: 1 / 240,
            self._stop: 1 / 300,
        }
        rng, actions = self.rng, []
        for action, rate in often.items():
            actions += [action] * (int(rate) + (rng.random() < rate % 1))
        return actions

    # Owners

    def _some_function(self) -> Function | None:
        members = [
            one
            for one in self.core.functions.values()
            if not one.configuration["FunctionName"].startswith("aa-")
        ]
        return self.rng.choice(sorted(members, key=lambda one: one.arn)) if members else None

    def _owner_acts(self) -> None:
        function = self._some_function()
        if function is None or function.configuration.get("LastUpdateStatus") == "InProgress":
            return
        kinds = "code code code variable variable layers template small large unwrap wrap policy delete create create publish publish"
        kind = self.rng.choice(kinds.split())
        self._happens(f"owner: {kind}", function.arn)
        getattr(self, f"_owner_{kind}")(function)

    def _owner_code(self, function: Function) -> None:
        self.core.deploy(function.arn, CodeSize=self.rng.randint(800, 40_000_000))

    def _owner_variable(self, function: Function) -> None:
        variables = self._variables(function)
        variables[f"NEW_{self.rng.randint(0, 2)}"] = f"{org.OWNERS_SECRET}-{self.rng.getrandbits(64):x}"
        self._set_variables(function, variables)

    def _owner_layers(self, function: Function) -> None:
        if function.configuration.get("PackageType") == "Image":
            return
        region = function.arn.split(":")[3]
        mine = [arn for arn in org.carried(function) if org.is_ours(arn)]
        others = org.foreign_layers(self.rng, region, 4)
        at = self.rng.randint(0, len(others))
        self.core.deploy(function.arn, Layers=org.with_layers([*others[:at], *mine, *others[at:]]))

    def _owner_template(self, function: Function) -> None:
        """Deploy by a template that knows nothing of us."""
        if function.configuration.get("PackageType") == "Image":
            return
        theirs = [arn for arn in org.carried(function) if not org.is_ours(arn)]
        kept = {k: v for k, v in self._variables(function).items() if k not in (org.WRAPPER, org.POLICY)}
        self.core.deploy(function.arn, Layers=org.with_layers(theirs), Environment={"Variables": kept})

    def _owner_small(self, function: Function) -> None:
        self.core.deploy(function.arn, MemorySize=128)
        self._after(self.rng.choice([5, 50]), lambda: self._owner_large(function))

    def _owner_large(self, function: Function) -> None:
        if self.core.function(function.arn) is function:
            self.core.deploy(function.arn, MemorySize=512)

    def _owner_wrap(self, function: Function) -> None:
        self._set_variables(function, {**self._variables(function), org.WRAPPER: "/opt/other/wrapper"})
        self._after(self.rng.choice([7, 60]), lambda: self._owner_unwrap(function))

    def _owner_unwrap(self, function: Function) -> None:
        kept = {k: v for k, v in self._variables(function).items() if k != org.WRAPPER}
        if self.core.function(function.arn) is function:
            self._set_variables(function, kept)

    def _owner_policy(self, function: Function) -> None:
        self._set_variables(function, {**self._variables(function), org.POLICY: "the owner's own"})

    def _owner_delete(self, function: Function) -> None:
        account, region = _unit(function.arn)
        self.core.as_owner(account, region, "DeleteFunction", FunctionName=function.arn)
        if self.rng.random() < 0.5:
            self._after(self.rng.choice([1, 30]), lambda: self._again(function))

    def _again(self, function: Function) -> None:
        """Create a function that was deleted again, under its name, from its owner's template."""
        account, region = _unit(function.arn)
        if self.core.function(function.arn) or account not in self.core.organization.accounts:
            return
        self._happens("owner: create again", function.arn)
        name = function.configuration["FunctionName"]
        fields = {
            k: v
            for k, v in function.configuration.items()
            if k in {"Runtime", "Timeout", "CodeSize", "PackageType"}
        }
        fields |= {"Environment": {"Variables": org.owners_variables(self.rng)}, "MemorySize": 512}
        self.core.place(account, region, name, **fields)

    def _owner_create(self, function: Function) -> None:
        account, region = _unit(function.arn)
        self._numbers += 1
        if account in self.core.organization.accounts:
            org.place(self.core, self.rng, account, region, self._numbers)

    def _owner_publish(self, function: Function) -> None:
        account, region = _unit(function.arn)
        if function.configuration.get("State", "Active") != "Active":
            return
        named = {"FunctionName": function.arn}
        version = self.core.as_owner(account, region, "PublishVersion", **named)["Version"]
        operation = "UpdateAlias" if "live" in function.aliases else "CreateAlias"
        self.core.as_owner(account, region, operation, **named, Name="live", FunctionVersion=version)

    def _variables(self, function: Function) -> dict[str, str]:
        return dict((function.configuration.get("Environment") or {}).get("Variables") or {})

    def _set_variables(self, function: Function, variables: Mapping[str, str]) -> None:
        self.core.deploy(function.arn, Environment={"Variables": dict(variables)})

    def meddles(self, call: Call) -> bool:
        """Let an owner deploy right before an update of ours arrives, now and then; return whether one has."""
        if call.operation != "UpdateFunctionConfiguration" or not call.session.startswith("AutoDefender"):
            return False
        function = self.core.function(call.function)
        if function is None or Random(f"{self.seed} {call.function} {call.session}").random() > _MEDDLES:
            return False
        self._happens("owner: deploys meanwhile", function.arn)
        self._owner_code(function)
        return True

    # Policies and failures

    def _some_account(self) -> str:
        return self.rng.choice(sorted(one for one in self.core.organization.accounts if one != HOME))

    def _deny(self) -> None:
        function = self._some_function()
        if function is None:
            return
        account, region = _unit(function.arn)
        action = self.rng.choice(
            ["lambda:UpdateFunctionConfiguration"] * 3 + ["lambda:GetFunctionConfiguration"]
        )
        resource = self.rng.choice([function.arn, "*", "*"])
        denial = self.core.deny(Denial(action, account, region, resource))
        self._happens("policy: denied", f"{action} {account} {region} {resource}")
        self._after(self.rng.choice([2, 12, 60]), lambda: self._allow(denial))

    def _allow(self, denial: Denial) -> None:
        self.core.denials.remove(denial)
        self._happens("policy: fixed", f"{denial.action} {denial.account} {denial.region}")

    def _refuse_key(self) -> None:
        function = self._some_function()
        if function is None or function.key_denied:
            return
        function.key_denied = True
        self._happens("key: denied", function.arn)
        self._after(self.rng.choice([2, 30]), lambda: self._grant_key(function))

    def _grant_key(self, function: Function) -> None:
        function.key_denied = False
        self._happens("key: fixed", function.arn)

    def _fail_next(self) -> None:
        function = self._some_function()
        if function is not None:
            self.core.fails_next[function.arn] = "EniLimitExceeded"
            self._happens("update: will fail", function.arn)

    def _hide(self) -> None:
        """Refuse an account's role, or a listing in it, for some hours."""
        account = self.core.organization.accounts[self._some_account()]
        hours = self.rng.choice([2, 9])
        self._happens("role: denied", account.id)
        if self.rng.random() < 0.5:
            account.role_denied = True
            self._after(hours, lambda: setattr(account, "role_denied", False))
        else:
            denial = self.core.deny(Denial("lambda:ListFunctions", account.id))
            self._after(hours, lambda: self._allow(denial))

    # The security team

    def _set_release(self, release: Release, what: str) -> None:
        if release == self.release:
            return
        self.release = release
        self.releases.append(release)
        self._happens(f"release: {what}", f"{release.version} {release.policy} {release.wrapper}")

    def _with(self, **changes: Any) -> Release:
        return Release(**{**vars(self.release), **changes})

    def _new_version(self) -> None:
        """Release a version; one that does harm is gone back from."""
        before, version = self.release.version, max(one.version for one in self.releases) + 1
        if version > org.VERSIONS[-1]:
            return
        if self.rng.random() < 0.4:
            self.bad_versions.add(version)
            self._after(self.rng.choice([20, 40]), lambda: self._go_back(version, before))
        elif self.rng.random() < 0.3:
            self._after(self.rng.choice([5, 50]), lambda: self._go_back(version, before))
            self._after(80, lambda: self._set_release(self._with(version=version), "up again"))
        self._set_release(self._with(version=version), "bad" if version in self.bad_versions else "up")

    def _go_back(self, version: int, before: int) -> None:
        if self.release.version == version:
            self._set_release(self._with(version=before), "back")
            self._after(HEALTH_HOURS + 1, lambda: setattr(self.asked, "release", True))

    def _rotate(self) -> None:
        self._set_release(self._with(policy=self.release.policy + 1), "rotated")

    def _other_wrapper(self) -> None:
        path = (
            "/opt/twistlock/wrapper2"
            if self.release.wrapper.endswith("wrapper")
            else "/opt/twistlock/wrapper"
        )
        self._set_release(self._with(wrapper=path), "other wrapper")

    def _opt_out(self) -> None:
        function = self._some_function()
        if function is None:
            return
        account, _ = _unit(function.arn)
        pattern = self.rng.choice([function.arn.split(":")[6], "plain-1*", "*"])
        expires = self.time.now().date() + timedelta(days=self.rng.randint(0, 6))
        remove = self.rng.random() < 0.4
        self.optouts.append(OptOut(account, pattern, expires, remove))
        self._happens("opt-out: removes" if remove else "opt-out", f"{account} {pattern} until {expires}")

    def _stop(self) -> None:
        self.stopped = True
        self._happens("stop: on")
        self._after(self.rng.choice([1, 6]), lambda: setattr(self, "stopped", False))

    def _ask_rollback(self) -> None:
        function = self._some_function()
        what = self.rng.choice(["run", "run", "run", "arn", "arn", "account", "wave", "all"])
        if what == "arn":
            what = function.arn if function else "run"
        if what in {"wave", "all", "account"}:
            self._after(7, self._ask_release)
        self.asked.rollbacks.append(what)

    def _ask_retry(self) -> None:
        self.asked.retry = True

    def _ask_release(self) -> None:
        self.asked.release = True

    def _ask_restore(self) -> None:
        self.asked.restore = True

    # Accounts and regions

    def _join(self) -> None:
        account = org.join(self.core, self.rng, self.joined, self.functions_each)
        self.joined += 1
        self._happens("account: joins", account)

    def _leave(self) -> None:
        account = self._some_account()
        if account not in PILOT:
            self.core.organization.leave(account)
            self._happens("account: leaves", account)

    def _suspend(self) -> None:
        account = self.core.organization.accounts[self._some_account()]
        if account.status == "ACTIVE":
            account.status = "SUSPENDED"
            self._happens("account: suspended", account.id)
            self._after(self.rng.choice([10, 90]), lambda: setattr(account, "status", "ACTIVE"))

    def _enable_region(self) -> None:
        account = self.core.organization.accounts[self._some_account()]
        if org.LATE_REGION in account.disabled_regions:
            account.disabled_regions.remove(org.LATE_REGION)
            self._happens("region: enabled", account.id)
            for number in range(self.functions_each):
                org.place(self.core, self.rng, account.id, org.LATE_REGION, number)

    # What AWS does by itself

    def _settle_seconds(self, arn: str) -> float:
        return 2.0 if hash_of(arn) % 20 else 45.0

    def harmed(self, function: Function) -> bool:
        """Return whether a function carries a version that does it harm."""
        mine = [arn for arn in org.carried(function) if org.is_ours(arn)]
        bad = any(int(arn.rpartition(":")[2]) in self.bad_versions for arn in mine)
        return bad and hash_of(function.arn) % 3 == 0

    def _metrics(self, query: MetricQuery) -> Datapoints:
        """Return a function's traffic: as much in each period. Most invocations fail while a release harms it, and of some
        functions nearly half at night, as they always have.
        """
        number, share = hash_of(query.arn), query.period / 3_600
        per_hour = 120.0 + number % 200
        values = {
            "Invocations": per_hour,
            "Errors": per_hour * 0.001,
            "Duration": per_hour * 80.0,
            "Throttles": 0.0,
        }
        value, times = values[query.metric] * share, self._times(query)
        if query.metric != "Errors":
            return [(at, value) for at in times]
        function = self.core.function(query.arn)
        harmed_since = self.harmed_since(function) if function else None
        nightly = self.nightly(query.arn)

        def errors(at: datetime) -> float:
            harmed = harmed_since is not None and at >= harmed_since
            return (
                per_hour * share * (0.6 if harmed else 0.4)
                if harmed or (nightly and at.hour in _NIGHT)
                else value
            )

        return (
            [(at, errors(at)) for at in times] if harmed_since or nightly else [(at, value) for at in times]
        )

    def nightly(self, arn: str) -> bool:
        """Return whether nearly half of a function's invocations have always failed at night."""
        return hash_of(arn) % 4 == 1

    def harmed_since(self, function: Function) -> datetime | None:
        """Return since when a function carries a version that does it harm, None where it does well."""
        return (
            datetime.fromisoformat(str(function.configuration["LastModified"]))
            if self.harmed(function)
            else None
        )

    def _times(self, query: MetricQuery) -> list[datetime]:
        key = query.start, query.end, query.period
        if key not in self._points:
            if len(self._points) > 500:
                self._points.clear()
            step = timedelta(seconds=query.period)
            self._points[key] = [query.start + n * step for n in range(int((query.end - query.start) / step))]
        return self._points[key]


def _unit(arn: str) -> tuple[str, str]:
    return arn.split(":")[4], arn.split(":")[3]


def hash_of(text: str) -> int:
    """Return a number that is the same in every process."""
    return Random(text).getrandbits(30)
