"""Which line of a TOML file says something; the standard parser does not tell."""

from __future__ import annotations

import re
from collections import Counter

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*([A-Za-z0-9_.\-"']+)\s*=""")


def line_of(text: str, at: tuple[str | int, ...]) -> int | None:
    """The line (from 1) of a key, or of the innermost table around it that has one; None if nothing of it has.

    Args:
        at: keys and positions in arrays, such as `("locations", 2, "price_per_hour")`.
    """
    lines = dict(reversed(list(_places(text))))
    for length in range(len(at), 0, -1):
        if at[:length] in lines:
            return lines[at[:length]]
    return None


def _places(text: str) -> list[tuple[tuple[str | int, ...], int]]:
    """(place, line) of every table header and key, in order."""
    found: list[tuple[tuple[str | int, ...], int]] = []
    seen: Counter[tuple[str | int, ...]] = Counter()
    table: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _within(header[2], seen)
            if header[1] == "[[":
                seen[table] += 1
                table = (*table, seen[table] - 1)
            found.append((table, number))
        elif key := _KEY.match(line):
            found.append(((*table, *_parts(key[1])), number))
    return found


def _within(name: str, seen: Counter[tuple[str | int, ...]]) -> tuple[str | int, ...]:
    """A header's place: parts of it that are arrays stand for their last element."""
    place: tuple[str | int, ...] = ()
    parts = _parts(name)
    for index, part in enumerate(parts):
        place = (*place, part)
        if index < len(parts) - 1 and seen[place]:
            place = (*place, seen[place] - 1)
    return place


def _parts(name: str) -> list[str]:
    return [part.strip().strip("\"'") for part in name.split(".")]
