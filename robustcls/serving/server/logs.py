"""What the server says on standard error: never more than a few lines of a kind."""

from __future__ import annotations

import logging
import time

LOG = logging.getLogger("robustcls.serving")

#: Whose words are shown: ours, and those of the parts that listen.
_LOGGERS = ("robustcls.serving", "uvicorn.error", "asyncio", "grpc")
_LINES, _SECONDS = 10, 60


class FewOfAKind(logging.Filter):
    """Lets through `_LINES` records of one place in `_SECONDS`, and later says how many it kept.

    Whoever can ask can cause a warning, and so could fill a disk.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = (record.pathname, record.lineno), time.monotonic()
        began, count = self._seen.get(kind, (now, 0))
        if now - began > _SECONDS:
            if count > _LINES:
                record.msg = f"{record.msg} ({count - _LINES} more like it before)"
            began, count = now, 0
        self._seen[kind] = (began, count + 1)
        return count < _LINES


def log_to_stderr() -> None:
    """Shows what the server logs, with the time."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(FewOfAKind())
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)
    LOG.setLevel(logging.INFO)
