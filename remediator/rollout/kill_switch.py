"""The kill switch as an SSM parameter."""

from collections.abc import Callable

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from scanner.aws.errors import describe
from scanner.core.errors import GuardStop

_OFF = "off"


def parameter_switch(session: boto3.Session, address: str, region: str) -> Callable[[], None]:
    """Return a check that raises GuardStop unless the parameter ("ssm:NAME"), in a region, holds "off".

    A parameter that is missing or can't be read stops the run as well.
    """
    name = address.removeprefix("ssm:")
    client = session.client("ssm", region_name=region, config=Config(connect_timeout=5, read_timeout=10))

    def check() -> None:
        try:
            value = str(client.get_parameter(Name=name, WithDecryption=True)["Parameter"].get("Value", ""))
        except (ClientError, BotoCoreError) as error:
            raise GuardStop(
                "kill_switch",
                f"{address} could not be read ({describe(error)})",
                f"Let it be read and set it to {_OFF}, or take rollout.kill_switch out",
            ) from error
        if value.strip().lower() != _OFF:
            shown = " ".join(value[:200].split())
            why = f" ({shown})" if shown.isprintable() and shown else ""
            raise GuardStop("kill_switch", f"{address} is not {_OFF}{why}", f"Set it to {_OFF} to go on")

    return check
