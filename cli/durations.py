"""How long, as people write it: `45m`, `1h30m`, `7d`."""

from __future__ import annotations

import re
from datetime import timedelta

from backbone.errors import ConfigurationError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> timedelta:
    """Raises `ConfigurationError` where the text is no duration."""
    if not re.fullmatch(r"(\d{1,9}[smhd])+", text):
        raise ConfigurationError(f"{text!r} is no time.", next_step="Write it as 45m, 2h, 1h30m or 3d.")
    return timedelta(seconds=sum(int(n) * _SECONDS[unit] for n, unit in re.findall(r"(\d+)([smhd])", text)))
