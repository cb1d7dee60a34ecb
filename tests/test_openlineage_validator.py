"""Whether the official validator held the events of this session: skipped, with the reason, where it was not there."""

from pathlib import Path

import pytest

from backbone.lineage.events import Event
from backbone.lineage.translate import translate
from tests.backbone.lineage.histories import FACTS, WINDOW, entry, history
from tests.openlineage_validator import VALIDATOR, assert_valid


def _told() -> list[Event]:
    step = ("score", "pump/prognoses")
    begun = (entry("planned", 0, *step, partition=WINDOW), entry("run_started", 1), entry("step_started", 2, "score"))
    return translate(history(*begun, entry("step_failed", 3, "score"), entry("run_failed", 4)), FACTS)


def test_the_official_validator_is_there_and_tells_good_events_from_bad_ones(tmp_path: Path) -> None:
    if not VALIDATOR.exists():
        pytest.skip("the official validator was not there (../shared): no event was held to the official schemas")
    good = _told()
    assert_valid(good, tmp_path)
    bad = [{name: value for name, value in event.items() if name != "job"} for event in good]
    with pytest.raises(AssertionError, match="job"):
        assert_valid(bad, tmp_path)
    with pytest.raises(AssertionError, match="no COMPLETE, FAIL or ABORT"):
        assert_valid([event for event in good if event["eventType"] == "START"], tmp_path)
