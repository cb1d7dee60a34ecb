"""The verdict on a window holds until the next one; it is known which of them began a standing."""

from datetime import UTC, date, datetime

from resources.state.database import Database
from resources.state.verdicts import Standing, Verdict, Verdicts

DAY, AT = date(2025, 3, 1), datetime(2025, 3, 2, tzinfo=UTC)


def verdict(standing: Standing, run_id: str, *, product: str = "telemetry", day: date = DAY) -> Verdict:
    failed = {} if standing == "passed" else {"completeness": "8 of 16 fail"}
    return Verdict(product, day, f"content of {run_id}", standing, failed, run_id, AT)


def test_a_verdict_takes_the_place_of_the_one_before_it(database: Database, site: str) -> None:
    verdicts = Verdicts(database, site, "pump")
    verdicts.record([verdict("blocked", "run-1"), verdict("passed", "run-1", product="advisories")])
    verdicts.record([verdict("passed", "run-2")])
    held = verdicts.all()
    assert {at: (v.standing, v.fingerprint) for at, v in held.items()} == {
        ("telemetry", DAY): ("passed", "content of run-2"),
        ("advisories", DAY): ("passed", "content of run-1"),
    }
    assert held["telemetry", DAY].judged_at == AT


def test_judged_again_alike_it_is_the_same_verdict(database: Database, site: str) -> None:
    verdicts = Verdicts(database, site, "pump")
    since = []
    for standing, run_id in (("blocked", "a"), ("blocked", "b"), ("passed", "c"), ("blocked", "d")):
        verdicts.record([verdict(standing, run_id)])  # type: ignore[arg-type]
        since.append(verdicts.all()["telemetry", DAY].since)
    assert since == ["a", "a", "c", "d"]


def test_only_what_an_answer_rests_on_keeps_a_window_from_the_model(database: Database, site: str) -> None:
    verdicts = Verdicts(database, site, "pump")
    other = Verdicts(database, f"{site}-2", "pump")
    verdicts.record(
        [
            verdict("blocked", "a"),
            verdict("warned", "a", product="condition_features"),
            verdict("blocked", "a", product="maintenance_plan", day=date(2025, 3, 2)),
        ]
    )
    other.record([verdict("blocked", "a", day=date(2025, 3, 3))])
    blocked = verdicts.blocked()
    assert {day: [v.product for v in found] for day, found in blocked.items()} == {DAY: ["telemetry"]}
    assert dict(blocked[DAY][0].failed) == {"completeness": "8 of 16 fail"}
    assert list(verdicts.blocked(["maintenance_plan"])) == [date(2025, 3, 2)]
