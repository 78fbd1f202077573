"""What people use to read every function of an organization, each written as its users write it.

A contender is given a Task, reads every account and region of it and returns how many functions it found. All
make the same calls to the same server: AssumeRole in each account, then ListFunctions page by page.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocove import cove

from benchmarks.task import ROLE, Found, Task


def _assume(sts: Any, account: str) -> dict[str, Any]:
    """A session's keys, named as boto3.Session's arguments are."""
    role = f"arn:aws:iam::{account}:role/{ROLE}"
    keys = sts.assume_role(RoleArn=role, RoleSessionName="benchmark")["Credentials"]
    return {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }


def _count(client: Any) -> int:
    return sum(len(page["Functions"]) for page in client.get_paginator("list_functions").paginate())


def naive(task: Task) -> Found:
    """Threads, with a Session and a client for each account and region: the usual script."""
    sts = boto3.Session().client("sts", config=Config(max_pool_connections=task.workers))

    def unit(account: str, region: str) -> int:
        return _count(boto3.Session(**_assume(sts, account), region_name=region).client("lambda"))

    with ThreadPoolExecutor(task.workers) as pool:
        return Found(sum(pool.map(lambda pair: unit(*pair), product(task.accounts, task.regions))))


def shared_loader(task: Task) -> Found:
    """Threads, with one Session for each account; all Sessions share the loader that caches the service models."""
    sts = boto3.Session().client("sts", config=Config(max_pool_connections=task.workers))
    loader = botocore.session.Session().get_component("data_loader")

    def account_of(account: str) -> int:
        core = botocore.session.Session()
        core.register_component("data_loader", loader)
        session = boto3.Session(botocore_session=core, **_assume(sts, account))
        return sum(_count(session.client("lambda", region_name=region)) for region in task.regions)

    with ThreadPoolExecutor(task.workers) as pool:
        return Found(sum(pool.map(account_of, task.accounts)))


def botocove(task: Task) -> Found:
    """botocove, from PyPI: a decorator that runs a function in every account and region."""

    @cove(
        target_ids=list(task.accounts),
        rolename=ROLE,
        regions=list(task.regions),
        thread_workers=task.workers,
        raise_exception=True,
    )
    def functions(session: boto3.Session) -> int:
        return _count(session.client("lambda"))

    return Found(sum(result["Result"] for result in functions()["Results"]))
