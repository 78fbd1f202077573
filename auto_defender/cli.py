"""The command line: the options of each command, and how its result is printed. The work is in the jobs."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, NoReturn

import boto3
import typer
from botocore.exceptions import BotoCoreError

from auto_defender import __version__
from auto_defender import logging as logs
from auto_defender.config import Configuration, read_configuration
from auto_defender.context import Context, mode_of, new_run_id, open_context, trigger_of
from auto_defender.job_result import JobResult
from auto_defender.notify.sns import notify_failure
from auto_defender.progress import Display
from auto_defender.signals import Interrupted, StopSignals
from auto_defender.sources import read_configuration_file
from auto_defender.terminal import error_console, open_streams, print_error, print_result
from reports.data.run_result import Mode
from scanner.core.clock import SYSTEM_CLOCK
from scanner.core.errors import AutoDefenderError, BadInput

log = logging.getLogger(__name__)

app = typer.Typer(
    name="auto-defender",
    help="Keeps the Prisma Cloud Serverless Defender on every Lambda function that can carry it safely.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
report_app = typer.Typer(help="Reports of earlier runs.", no_args_is_help=True)
optouts_app = typer.Typer(help="The opt-out file.", no_args_is_help=True)
app.add_typer(report_app, name="report")
app.add_typer(optouts_app, name="optouts")
state_app = typer.Typer(help="What runs left for the next ones.", no_args_is_help=True)
app.add_typer(state_app, name="state")

ConfigOption = Annotated[str, typer.Option("--config", help="A file, s3://bucket/key or ssm:NAME.")]
OutputOption = Annotated[
    str | None,
    typer.Option("--output", help="A folder or s3://bucket/prefix; the configuration's otherwise."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Log every verdict and retry.")]
FunctionsOption = Annotated[list[str] | None, typer.Option("--function", help="This function's ARN.")]
AccountsOption = Annotated[list[str] | None, typer.Option("--account", help="All of this account.")]
ApplyOption = Annotated[
    bool, typer.Option("--apply", help="Make the changes; otherwise they are only shown.")
]


@dataclass(frozen=True)
class _Call:
    """The options that the commands share."""

    config: str
    json: bool
    verbose: bool
    output: str | None = None
    settles: bool = False  # on a signal the job ends in good order, with its report; otherwise it just ends
    notify: bool = False  # publish a failure to the topic: a scheduled run has no one at its terminal


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"auto-defender {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that precede a command."""


@app.command()
def demo(
    accounts: Annotated[int, typer.Option(min=3, max=200, help="How many accounts.")] = 24,
    output: Annotated[str, typer.Option(help="A folder or s3://bucket/prefix.")] = "./demo-out",
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Sweep an organization simulated in this process: a dry run, then the same with changes."""
    from auto_defender.demo import run_demo  # moto, which only the demo needs, takes seconds to import

    with _opened(verbose) as (_, display, signals):
        signals.settle()
        result = run_demo(accounts, output, display, signals.stop)
    _finish(result, as_json)


@app.command()
def scan(
    config: ConfigOption,
    output: OutputOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Sweep and assess every function; read only."""
    from auto_defender.jobs.run import scan as job

    _run(_Call(config, as_json, verbose, output, settles=True), lambda settings: "scan", job)


@app.command()
def run(
    config: ConfigOption,
    output: OutputOption = None,
    apply: ApplyOption = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Sweep, assess and protect: the hourly job. Writes only with --apply, or where rollout.dry_run is false."""
    from auto_defender.jobs.run import run as job

    call = _Call(config, as_json, verbose, output, settles=True, notify=True)
    _run(call, lambda settings: mode_of(settings, apply=apply), job)


@app.command()
def plan(
    config: ConfigOption,
    out: Annotated[str, typer.Option("--out", help="Where the plan is written.")],
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write a plan of what a run would change, for approval."""
    from auto_defender.jobs.plan import write_plan

    _run(
        _Call(config, as_json, verbose), lambda settings: "dry_run", lambda context: write_plan(context, out)
    )


@app.command(name="apply")
def apply_command(
    config: ConfigOption,
    plan_file: Annotated[str, typer.Argument(metavar="PLAN.json", help="A plan that was approved.")],
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make the changes of a saved plan, and nothing else."""
    from auto_defender.jobs.apply import apply_saved

    _run(
        _Call(config, as_json, verbose, settles=True),
        lambda settings: "apply",
        lambda context: apply_saved(context, plan_file),
    )


@app.command()
def rollback(
    config: ConfigOption,
    run_ids: Annotated[list[str] | None, typer.Option("--run", help="Every change of this run.")] = None,
    functions: FunctionsOption = None,
    accounts: AccountsOption = None,
    waves: Annotated[
        list[str] | None, typer.Option("--wave", help="All that was changed in this wave.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that runs have changed.")] = False,
    *,
    apply: ApplyOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until a run under way has ended.")] = False,
    stop: Annotated[
        bool,
        typer.Option(
            "--stop", help="Stop the run under way by state/stop, which stays, and wait for its end."
        ),
    ] = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Remove exactly what runs added, and keep every later change.

    Of a --run its changes; of the others all that runs added to the functions. Ends with 0 only where every function is as it was, with 4 where one is not.
    """
    from auto_defender.jobs.rollback import roll_back
    from remediator.journal.selection import Selection

    selection = Selection(run_ids or (), functions or (), accounts or (), waves or (), everything)
    if selection == Selection():
        _fail(BadInput("name at least one --run RUN_ID, --function ARN, --account ID, --wave NAME, or --all"))
    if stop and not apply:
        _fail(BadInput("--stop needs --apply: a dry run puts no state/stop"))
    _run(
        _Call(config, as_json, verbose, settles=True),
        lambda settings: "rollback",
        lambda context: roll_back(context, selection, apply, wait=wait, stop=stop),
        memory=False,
    )


@app.command()
def explain(
    config: ConfigOption,
    function_arn: Annotated[str, typer.Argument(metavar="FUNCTION_ARN")],
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show every check of one function: its value, its threshold, its result; and what runs did to it. Read only."""
    from auto_defender.jobs.explain import explain_function

    _run(
        _Call(config, as_json, verbose),
        lambda settings: "scan",
        lambda context: explain_function(context, function_arn),
        writable=False,
    )


@app.command()
def doctor(config: ConfigOption, as_json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Check what would stop a run, before it runs."""
    from auto_defender.doctor import examine

    with _opened(verbose) as (run_id, _, signals):
        settings, session = _configured(config)
        result = examine(settings, session, run_id, signals.stop)
    _finish(result, as_json)


@report_app.command()
def weekly(
    config: ConfigOption,
    week: Annotated[
        str | None, typer.Option(help="An ISO week such as 2026-W48; last week otherwise.")
    ] = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write the weekly report for leadership."""
    from auto_defender.jobs.weekly import report_week

    with _opened(verbose):
        settings, session = _configured(config)
        result = report_week(settings, session, week)
    _finish(result, as_json)


@report_app.command()
def link(
    config: ConfigOption,
    run_id: Annotated[str | None, typer.Option("--run", help="The run; the newest one otherwise.")] = None,
    hours: Annotated[
        int,
        typer.Option(
            min=1, max=168, help="How long it is valid, unless the credentials that sign it expire before."
        ),
    ] = 12,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Print a link that opens a run's report in a browser, without AWS credentials."""
    from auto_defender.jobs.report_link import link_report

    with _opened(verbose):
        settings, session = _configured(config)
        result = link_report(settings, session, run_id, hours)
    _finish(result, as_json)


@optouts_app.command()
def check(config: ConfigOption, as_json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Check the opt-out file: what is in force, what expires soon, what has expired."""
    from auto_defender.jobs.optouts import check_optouts

    with _opened(verbose):
        settings, session = _configured(config)
        result = check_optouts(settings, session)
    _finish(result, as_json)


@state_app.command()
def show(
    config: ConfigOption,
    functions: FunctionsOption = None,
    accounts: AccountsOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show the quarantine, failures and their next try, drift that is given up, and the waves by release. Read only."""
    from auto_defender.jobs.state import Selection, show_state

    with _opened(verbose):
        settings, session = _configured(config)
        result = show_state(settings, session, Selection(functions or (), accounts or ()))
    _finish(result, as_json)


@state_app.command()
def retry(
    config: ConfigOption,
    functions: FunctionsOption = None,
    accounts: AccountsOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Forget failures, and drift that is given up: the next run tries these functions again."""
    from auto_defender.jobs import state

    selection = state.Selection(functions or (), accounts or ())
    _change_state(
        _Call(config, as_json, verbose),
        lambda settings, session, run_id: state.retry(settings, session, run_id, selection),
    )


@state_app.command()
def release(
    config: ConfigOption,
    functions: FunctionsOption = None,
    accounts: AccountsOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Take functions out of the quarantine: runs may protect them again."""
    from auto_defender.jobs import state

    selection = state.Selection(functions or (), accounts or ())
    _change_state(
        _Call(config, as_json, verbose),
        lambda settings, session, run_id: state.release(settings, session, run_id, selection),
    )


@state_app.command()
def rebuild(config: ConfigOption, as_json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Write the state again from the journals, where it differs: after a loss, or a restored older copy.

    Ends with 3 where a part of the journals is refused.
    """
    from auto_defender.jobs.state import rebuild_state

    _change_state(_Call(config, as_json, verbose), rebuild_state)


def _change_state(call: _Call, job: Callable[[Configuration, boto3.Session, str], JobResult]) -> None:
    """Do a job that changes what runs have kept, and print its result."""
    with _opened(call.verbose) as (run_id, _, _):
        settings, session = _configured(call.config)
        result = job(settings, session, run_id)
    _finish(result, call.json)


def _run(
    call: _Call,
    mode: Callable[[Configuration], Mode],
    job: Callable[[Context], JobResult],
    *,
    writable: bool = True,
    memory: bool = True,
) -> None:
    """Open the context, do the job, print its result. writable, memory: as for open_context."""
    with _opened(call.verbose) as (run_id, display, signals):
        settings, session = _configured(call.config)
        try:
            context = open_context(
                settings,
                session,
                run_id=run_id,
                mode=mode(settings),
                display=display,
                stop=signals.stop,
                output=call.output,
                writable=writable,
                trigger=trigger_of(os.environ),
                memory=memory,
            )
            if call.settles:
                signals.settle()
            result = job(context)
        except AutoDefenderError as error:
            if call.notify:
                notify_failure(settings.notifications, session, "run", error)
            raise
    _finish(result, call.json)


@contextmanager
def _opened(verbose: bool) -> Iterator[tuple[str, Display, StopSignals]]:
    """Set up the log, the progress and the signals; report the project's errors in one line with their exit code."""
    console = error_console()
    run_id = new_run_id(SYSTEM_CLOCK.now())
    logs.set_up(run_id, verbose=verbose, console=console)
    signals = StopSignals()
    try:
        with signals, Display(console) as display:
            yield run_id, display, signals
    except Interrupted as error:
        _fail(error)
    except AutoDefenderError as error:
        _fail(error, signals.exit_code)


def _configured(source: str) -> tuple[Configuration, boto3.Session]:
    try:
        session = boto3.Session(
            region_name=os.environ.get("AWS_REGION")
        )  # botocore only reads AWS_DEFAULT_REGION
    except BotoCoreError as error:
        raise BadInput(f"the AWS configuration can't be used: {error}") from None
    text = read_configuration_file(source, session, os.environ)
    return read_configuration(text, source, os.environ), session


def _finish(result: JobResult, as_json: bool) -> None:
    print_result(json.dumps(result.summary, indent=2) if as_json else result.text)
    raise typer.Exit(result.exit_code)


def _fail(error: AutoDefenderError | Interrupted, exit_code: int | None = None) -> NoReturn:
    """Print the error; exit_code: None for the error's own."""
    print_error(str(error))
    raise typer.Exit(exit_code or error.exit_code) from None


def main() -> None:
    """Run the command line; an internal error ends with exit code 1 and one line."""
    open_streams()
    try:
        app()
    except Exception as error:
        log.exception("internal error")
        print_error(f"internal error: {type(error).__name__}; please report it with the log above")
        sys.exit(1)
