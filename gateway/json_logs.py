"""Logs as one JSON document a line, for the collectors that plants have."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **{k: v for k, v in getattr(record, "told", {}).items() if v is not None},
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def log_as_json(stream: TextIO | None = None) -> None:
    """Send everything from `info` on to a stream (standard error by default), a JSON document a line.

    What belongs to a message is given to the logger as `extra={"told": {...}}`.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for chatty in ("amqtt", "asyncua", "transitions", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
