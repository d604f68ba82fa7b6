"""What a library may say unasked: to its log, or to standard error if nobody listens there."""

from __future__ import annotations

import logging
import sys

_log = logging.getLogger("graphformer")


def notice(message: str) -> None:
    """Log lines at level INFO; without a log at that level, write them to standard error."""
    _log.info("%s", message)
    if not (_log.isEnabledFor(logging.INFO) and _log.hasHandlers()):
        print("\n".join(f"graphformer: {line}" for line in message.split("\n")), file=sys.stderr)
