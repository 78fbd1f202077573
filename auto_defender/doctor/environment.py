"""Checks outside of the member accounts: identity, clock, output, opt-outs, rollout settings, topic."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from botocore.exceptions import ClientError

from auto_defender.context import Context
from auto_defender.doctor.finding import Finding
from scanner.aws.errors import Throttled, TimedOut, Unreachable, describe

# Signature Version 4: AWS rejects a request whose time differs from its own by more than five minutes. Beyond that
# the doctor can't call AWS at all, so it warns early.
REJECTED_SKEW_SECONDS = 300
WARNING_SKEW_SECONDS = 30


def environment(context: Context) -> Iterator[Finding]:
    """Yield a finding for each of these checks."""
    yield Finding("ok", "identity", f"{context.aws.arn} in partition {context.aws.partition}")
    yield _clock(context)
    # Opening the context has already read the opt-outs and written to the output.
    yield Finding("ok", "output", f"{context.store.url('runs').removesuffix('/runs')} can be written")
    yield _optouts(context)
    yield _rollout(context)
    yield _topic(context)


def _clock(context: Context) -> Finding:
    """Compare this machine's clock with the Date header of an answer from AWS."""
    answer = context.aws.call(
        context.aws.central_account_id, context.aws.home_region, "sts", "get_caller_identity"
    )
    header = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not header:
        remedy = "Compare this machine's clock by hand: a proxy removes the Date header."
        return Finding("warning", "clock", "the answer carried no Date to compare with", remedy)
    skew = abs((datetime.now(UTC) - parsedate_to_datetime(header)).total_seconds())
    if skew > WARNING_SKEW_SECONDS:
        found = f"{skew:.0f} s off AWS's, which rejects every request from {REJECTED_SKEW_SECONDS} s on"
        return Finding("warning", "clock", found, "Set this machine's clock by NTP.")
    return Finding("ok", "clock", f"within {max(1, round(skew))} s of AWS's")


def _optouts(context: Context) -> Finding:
    if context.configuration.optouts is None:
        return Finding(
            "warning", "opt-outs", "no file configured", "Name one in optouts, even without entries."
        )
    today = datetime.now(UTC).date()
    entries = context.optouts.entries
    expired = sum(not entry.in_force(today) for entry in entries)
    return Finding("ok", "opt-outs", f"{len(entries)} entries, {expired} of them expired")


def _rollout(context: Context) -> Finding:
    rollout = context.configuration.rollout
    if rollout.dry_run:
        return Finding("ok", "rollout", "dry run: nothing is written without --apply")
    if rollout.require_tag:
        tag = rollout.require_tag
        return Finding("ok", "rollout", f"writes where the tag {tag.key} is {tag.value}")
    return Finding("ok", "rollout", "writes to every eligible function")


def _topic(context: Context) -> Finding:
    """Check that the notification topic exists and has subscribers."""
    arn = context.configuration.notifications.topic_arn
    if arn is None:
        remedy = "Name one in notifications.topic_arn, such as the central stack's AlarmTopic."
        return Finding("warning", "notifications", "no topic configured: nobody is notified", remedy)
    central, region = context.aws.central_account_id, arn.split(":")[3]
    try:
        answer = context.aws.call(central, region, "sns", "get_topic_attributes", TopicArn=arn)
    except (ClientError, Throttled, TimedOut, Unreachable) as error:
        remedy = "Fix the ARN, or allow sns:GetTopicAttributes and sns:Publish on it."
        return Finding("problem", f"notifications to {arn}", describe(error), remedy)
    subscribed = answer["Attributes"].get("SubscriptionsConfirmed", "0")
    if subscribed == "0":
        return Finding("warning", f"notifications to {arn}", "nobody has subscribed", "Subscribe someone.")
    return Finding("ok", f"notifications to {arn}", f"{subscribed} subscriptions")
