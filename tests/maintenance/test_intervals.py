from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from maintenance.intervals import Intervals

CAP = 120.0
NUMBERS = st.floats(-200, 300)


@st.composite
def intervals(draw: st.DrawFn) -> Intervals:
    centres = sorted(draw(st.sets(NUMBERS, min_size=1, max_size=10)))
    low, high = (np.array(draw(st.lists(NUMBERS, min_size=len(centres), max_size=len(centres)))) for _ in range(2))
    return Intervals(0.9, np.array(centres), low, high, CAP)


@given(intervals(), st.lists(NUMBERS, max_size=8))
def test_bounds_hold_the_prediction_and_stay_where_labels_are(fitted: Intervals, predicted: list[float]) -> None:
    of = np.array(predicted)

    low, high = fitted.around(of)

    cut = np.clip(of, 0, CAP)
    assert ((low >= 0) & (low <= cut) & (cut <= high) & (high <= CAP)).all()
    for side, offsets in ((low, fitted.low), (high, fitted.high)):
        bound = np.clip(of + np.interp(of, fitted.centres, offsets), 0, CAP)
        np.testing.assert_array_equal(side[side != cut], bound[side != cut])
