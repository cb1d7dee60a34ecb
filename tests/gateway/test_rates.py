"""How much a source may send, and how much is remembered of sources that choose their names."""

from gateway.rates import Rates


def test_each_source_has_a_bucket_that_fills_again() -> None:
    now = 0.0
    rates = Rates(2.0, lambda: now)
    assert [rates.wait_s("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    assert rates.wait_s("b") == 0.0
    now = 0.5
    assert [rates.wait_s("a") for _ in range(2)] == [0.0, 0.5]


def test_sources_with_names_that_no_machine_has_share_one() -> None:
    rates = Rates(1.0, lambda: 0.0)
    assert [rates.wait_s(letter * 60_000) for letter in "abc"] == [0.0, 1.0, 1.0]
    assert rates.wait_s("P-1") == 0.0
