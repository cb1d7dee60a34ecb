from datetime import date, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.day_positions import days_after, within_day
from backbone.errors import SourceError
from backbone.sources import Batch

FIRST = date(2025, 1, 1)


def test_all_days_come_before_there_is_a_position() -> None:
    assert list(days_after(None, FIRST, date(2025, 1, 3))) == [date(2025, 1, d) for d in (1, 2, 3)]


def test_another_sources_position_is_refused() -> None:
    with pytest.raises(SourceError, match="is no day"):
        list(days_after("sha256:abc", FIRST, FIRST))


@given(st.integers(0, 40), st.integers(1, 4))
def test_resuming_after_a_batch_skips_its_day_only_after_the_last(day_number: int, count: int) -> None:
    day = FIRST + timedelta(days=day_number)
    batches = [Batch(str(n), "telemetry", day, pa.table({}), "test", position="") for n in range(count)]
    handed = list(within_day(day, batches))
    resumed = [next(days_after(b.position, FIRST, date(2026, 1, 1))) for b in handed]
    assert resumed == [day] * (count - 1) + [day + timedelta(days=1)]
