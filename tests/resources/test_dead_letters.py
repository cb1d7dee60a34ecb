"""What gateways could not use is counted by what it has in common, however it came to lie there."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.windows import WindowRange
from resources import dead_letters
from resources.dead_letters import LETTERS, NONE, DeadLetters

DAY = date(2026, 1, 1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEEK = WindowRange("north", DAY, DAY + timedelta(days=6))


def letter(position: int, **told: Any) -> dict[str, Any]:
    at = told.pop("received_at", NOON + timedelta(seconds=position))
    return {
        "site": "north", "date": at.date(), "gateway": "gw-1", "spool": "s", "position": position, "source": "press",
        "equipment": f"P-{position}", "equipment_class": "pump", "reason": "invalid_json",
        "digest": f"sha256:{position}", "raw": b"{", "received_at": at, "traceparent": None,
    } | told  # fmt: skip


def table(*letters: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(letters), LETTERS)


@pytest.fixture
def kept(tmp_path: Path) -> DeadLetters:
    return DeadLetters(tmp_path / "dead_letters")


def test_letters_are_counted_by_what_they_have_in_common_with_the_newest_of_them(kept: DeadLetters) -> None:
    kept.add(table(letter(0), letter(2), letter(1, reason="not_finite")), "gw-1", 3)
    kept.add(table(letter(3, equipment_class=None), letter(4, site="south")), "gw-1", 5)
    kept.add(table(letter(5, received_at=NOON + timedelta(days=1))), "gw-1", 6)
    kept.add(table(letter(6, received_at=NOON + timedelta(days=9))), "gw-1", 7)
    found = {(r["date"], r["reason"], r["equipment_class"]): r for r in kept.tally(WEEK).to_pylist()}
    assert {key: row["letters"] for key, row in found.items()} == {
        (DAY, "invalid_json", "pump"): 2,
        (DAY, "not_finite", "pump"): 1,
        (DAY, "invalid_json", NONE): 1,
        (DAY + timedelta(days=1), "invalid_json", "pump"): 1,
    }
    newest = found[DAY, "invalid_json", "pump"]
    assert (newest["equipment_id"], newest["digest"]) == ("P-2", "sha256:2")
    assert newest["newest_at"] == NOON + timedelta(seconds=2)
    assert kept.counts("north") == {DAY: 4, DAY + timedelta(days=1): 1, DAY + timedelta(days=9): 1}


def test_nothing_of_what_was_sent_is_in_the_tally(kept: DeadLetters) -> None:
    kept.add(table(letter(0, raw=b"password=secret")), "gw-1", 1)
    assert "secret" not in str(kept.tally(WEEK).to_pylist())


def test_letters_of_before_classes_were_told_count_as_of_none(kept: DeadLetters) -> None:
    kept.add(table(letter(0)).drop_columns(["equipment_class"]), "gw-1", 1)
    (found,) = kept.tally(WEEK).to_pylist()
    assert (found["letters"], found["equipment_class"]) == (1, NONE)


def test_who_nobody_can_name_has_no_name(kept: DeadLetters) -> None:
    kept.add(table(letter(0, source="", equipment="", reason="unreadable_record")), "gw-1", 1)
    (found,) = kept.tally(WEEK).to_pylist()
    assert (found["source"], found["equipment_id"], found["letters"]) == (NONE, None, 1)


def test_where_nothing_ever_came_there_is_nothing(kept: DeadLetters) -> None:
    assert (kept.tally(WEEK).num_rows, kept.counts("north"), kept.version) == (0, {}, None)


kinds = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", None])), max_size=12)


@given(st.lists(kinds, max_size=4))
def test_in_parts_or_at_once_is_the_same(parts: list[list[tuple[str, str | None]]]) -> None:
    letters, batches = [], []
    for part in parts:
        rows = [letter(len(letters) + n, reason=r, equipment_class=c) for n, (r, c) in enumerate(part)]
        letters += rows
        batches += table(*rows).to_batches()
    tally = dead_letters.tally_of(batches)
    expected: dict[tuple[str, str], tuple[int, str]] = {}
    for one in letters:
        key = one["reason"], one["equipment_class"] or NONE
        expected[key] = expected.get(key, (0, ""))[0] + 1, one["digest"]
    assert {(r["reason"], r["equipment_class"]): (r["letters"], r["digest"]) for r in tally.to_pylist()} == expected
