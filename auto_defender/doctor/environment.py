"""Checks outside of the member accounts: identity, clock, opt-outs, rollout settings, topic."""

from email.utils import parsedate_to_datetime

import boto3

from auto_defender.config import Configuration
from auto_defender.context import read_configured_optouts
from auto_defender.doctor.finding import CALL_FAILED, Finding
from scanner.aws.caller import Aws
from scanner.aws.errors import describe
from scanner.core.clock import SYSTEM_CLOCK

# Runs of several machines compare times: the lock is valid for minutes.
WARNING_SKEW_SECONDS = 30


def identity(aws: Aws) -> Finding:
    """Report who calls AWS."""
    return Finding("ok", "identity", f"{aws.arn} in partition {aws.partition}")


def clock(aws: Aws) -> Finding:
    """Compare this machine's clock with the Date header of an answer from AWS."""
    answer = aws.call(aws.central_account_id, aws.home_region, "sts", "get_caller_identity")
    header = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not header:
        remedy = "Compare this machine's clock by hand: a proxy removes the Date header."
        return Finding("warning", "clock", "the answer carried no Date to compare with", remedy)
    skew = abs((SYSTEM_CLOCK.now() - parsedate_to_datetime(header)).total_seconds())
    if skew > WARNING_SKEW_SECONDS:
        found = (
            f"{skew:.0f} s off AWS's. Calls to the accounts are signed with AWS's time where that is needed; the lock, "
            "run ids and calls to S3, SNS and SSM follow this machine's"
        )
        return Finding("warning", "clock", found, "Set this machine's clock by NTP.")
    return Finding("ok", "clock", f"within {max(1, round(skew))} s of AWS's")


def optouts(settings: Configuration, session: boto3.Session) -> Finding:
    """Read the opt-out file."""
    if settings.optouts is None:
        return Finding(
            "warning", "opt-outs", "no file configured", "Name one in optouts, even without entries."
        )
    today = SYSTEM_CLOCK.now().date()
    entries = read_configured_optouts(settings, session).entries
    expired = sum(not entry.in_force(today) for entry in entries)
    return Finding("ok", "opt-outs", f"{len(entries)} entries, {expired} of them expired")


def rollout(settings: Configuration) -> Finding:
    """Report what runs may write to."""
    if settings.rollout.dry_run:
        return Finding("ok", "rollout", "dry run: nothing is written without --apply")
    if tag := settings.rollout.require_tag:
        return Finding("ok", "rollout", f"writes where the tag {tag.key} is {tag.value}")
    return Finding("ok", "rollout", "writes to every eligible function")


def topic(aws: Aws, settings: Configuration) -> Finding:
    """Check that the notification topic exists and has subscribers."""
    arn = settings.notifications.topic_arn
    if arn is None:
        remedy = "Name one in notifications.topic_arn, such as the central stack's AlarmTopic."
        return Finding("warning", "notifications", "no topic configured: nobody is notified", remedy)
    region = arn.split(":")[3]
    try:
        answer = aws.call(aws.central_account_id, region, "sns", "get_topic_attributes", TopicArn=arn)
    except CALL_FAILED as error:
        remedy = "Fix the ARN, or allow sns:GetTopicAttributes and sns:Publish on it."
        return Finding("problem", f"notifications to {arn}", describe(error), remedy)
    subscribed = answer["Attributes"].get("SubscriptionsConfirmed", "0")
    if subscribed == "0":
        return Finding("warning", f"notifications to {arn}", "nobody has subscribed", "Subscribe someone.")
    return Finding("ok", f"notifications to {arn}", f"{subscribed} subscriptions")
