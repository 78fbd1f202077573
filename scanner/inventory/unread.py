"""One log line, in one shape, for whatever could not be read of a unit."""

import logging

from scanner.aws.errors import describe
from scanner.inventory.ledger import Unit

log = logging.getLogger(__name__)


def log_unit_error(what: str, unit: Unit, error: BaseException | str | None, **extra: str) -> None:
    """Log that something of a unit was not read, and why; the caller counts it."""
    detail = describe(error) if isinstance(error, Exception) else str(error)
    log.error(
        "%s not read: %s in %s: %s",
        what,
        unit.account_id,
        unit.region,
        detail,
        extra={"account_id": unit.account_id, "region": unit.region, **extra},
    )
