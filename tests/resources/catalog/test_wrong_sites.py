"""What is wrong in a site file is told at load, with the file, the line, and what would be right."""

import re
from datetime import date
from pathlib import Path

import pytest

from backbone.errors import ConfigurationError
from resources.catalog.sites import read_site, read_sites

SITE = """\
[calendar]
first_day = 2025-01-01

[fleets.fan]
source = { kind = "files" }

[[locations]]
name = "cell"
kind = "edge"
zone = "cell"
jurisdiction = "DE"

[[locations]]
name = "hall"
kind = "on_prem"
zone = "plant"
jurisdiction = "DE"
targets = [{ name = "server", kind = "in_process" }]

[[locations]]
name = "sky"
kind = "cloud"
zone = "sky"
jurisdiction = "IE"
price_per_hour = 1
priced_on = 2026-01-01
price_source = "the price list"

[[targets]]
name = "worker"
location = "sky"
kind = "subprocess"
breaker = { minimum = 3 }

[workloads.training]
any_of = ["training-far", "training-near"]

[workloads.training-far]
kinds = ["cloud"]

[workloads.training-near]
targets = ["server"]
"""


def read(folder: Path, text: str) -> Path:
    path = folder / "north.toml"
    path.write_text(text)
    read_site(path, anchor=date(2026, 1, 1))
    return path


def test_the_right_file_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, SITE)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('location = "sky"', 'location = "skye"', 'location = "skye"', r"no location .*'skye'; known: cell, hall, sky"),
        ('kind = "subprocess"', 'kind = "abacus"', "abacus", r"no target kind .*'abacus'; known: .*subprocess"),
        (
            'name = "server", kind = "in_process"',
            'name = "server", kind = "abacus"',
            "targets = [",
            r"no target kind .*'abacus'; known: .*in_process",
        ),
        ('kind = "cloud"', 'kind = "clod"', "clod", r"location kind .*'clod'; known: cloud, edge, on_prem"),
        ("[workloads.training]", "[workloads.trainign]", "trainign", r"'trainign'; known: .*scoring, training"),
        ('"training-near"]', '"training-nera"]', "any_of", r"'training-nera'; known: .*training-near"),
        ('targets = ["server"]', 'targets = ["serve"]', "targets", r"'serve'; known: server, worker"),
        ('kinds = ["cloud"]', 'any_of = ["training"]', "any_of", "circle: training → training-far → training"),
        ('kinds = ["cloud"]', 'kinds = ["clouds"]', "kinds", "'clouds'"),
        ('kinds = ["cloud"]', "budget = 2", "budget", "budget is 2"),
        ('kinds = ["cloud"]', "deadlien_s = 2", "deadlien_s", r"'deadlien_s'; known: .*deadline_s"),
        ("price_per_hour = 1", "price_per_hour = -1", "price_per_hour", "is -1.*greater than or equal to 0"),
        ("price_per_hour = 1", "price_per_gb = -0.1", "price_per_gb", "price_per_gb is -0.1"),
        ("priced_on = 2026-01-01\n", "", '[[locations]]\nname = "sky"', "a price without its date and"),
        ('price_source = "the price list"\n', "", '[[locations]]\nname = "sky"', "a price without its date and"),
        ("price_per_hour = 1", "capacity = 0", "capacity", "capacity is 0"),
        ("price_per_hour = 1", "priec = 1", "priec", r"'priec'; known: .*price_per_hour"),
        ("[calendar]", "tagets = []\n[calendar]", "tagets", r"'tagets'; known: .*targets"),
        ("{ minimum = 3 }", "{ minimum = 30 }", "breaker", "minimum is 30, but its window holds 20"),
        ("{ minimum = 3 }", "{ window = 0 }", "breaker", "window is 0"),
        ("{ minimum = 3 }", "{ open_s = 60, open_max_s = 30 }", "breaker", "open_max_s of 30 is less"),
        ("{ minimum = 3 }", "{ slow_share = 0.2 }", "breaker", "nothing says which calls are slow"),
        ("{ minimum = 3 }", "{ minimun = 3 }", "breaker", r"'minimun'; known: .*minimum"),
        ("breaker = { minimum = 3 }", "timeout_s = 0", "timeout_s", "timeout_s is 0"),
        ("breaker = { minimum = 3 }", 'timeout_s = "long"', "timeout_s", "'long'"),
        ('name = "sky"', 'name = "../../etc"', "../../etc", "name is '../../etc'"),
        ('name = "worker"', 'name = "server"', "server", "two targets named 'server'"),
        ('name = "hall"', 'name = "cell"', "cell", "two locations named 'cell'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_file_and_line(tmp_path: Path, old: str, new: str, line: str, says: str) -> None:
    assert old in SITE
    text = SITE.replace(old, new, 1)
    with pytest.raises(ConfigurationError, match=says) as caught:
        read(tmp_path, text)
    told = re.match(rf"{re.escape(str(tmp_path / 'north.toml'))}, line (\d+): ", str(caught.value))
    assert told, str(caught.value)
    from_there = text.splitlines()[int(told[1]) - 1 :]
    assert line in "\n".join(from_there[: line.count("\n") + 1])
    assert caught.value.next_step


def test_a_breaker_in_a_table_of_its_own_is_pointed_at_to_the_key(tmp_path: Path) -> None:
    text = SITE.replace("breaker = { minimum = 3 }", "[targets.breaker]\nwindow = 30\nminimum = -1")
    with pytest.raises(ConfigurationError, match=r"minimum is -1") as caught:
        read(tmp_path, text)
    number = int(str(caught.value).partition("line ")[2].partition(":")[0])
    assert text.splitlines()[number - 1] == "minimum = -1"


def test_requirements_that_nothing_meets_show_the_whole_table(tmp_path: Path) -> None:
    text = SITE.replace('kinds = ["cloud"]', 'kinds = ["cloud"]\nresidency = ["DE"]').replace(
        'targets = ["server"]', 'targets = ["server"]\ngpus = 4'
    )
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    told = str(caught.value)
    for row in (
        "training-far on worker (sky): rejected, residency: sky is in IE, data may be in DE",
        "training-far on server (hall): rejected, kinds: hall is on_prem, not cloud",
        "training-near on worker (sky): rejected, targets: only server may take it; gpus: needs 4, sky has 0",
        "training-near on server (hall): rejected, gpus: needs 4, hall has 0",
    ):
        assert f"\n  {row}" in told
    number = int(told.partition("line ")[2].partition(":")[0])
    assert text.splitlines()[number - 1] == "[workloads.training]"


def test_a_location_is_added_in_one_row(tmp_path: Path) -> None:
    row = '[[locations]]\nname = "lab"\nkind = "edge"\nzone = "lab"\njurisdiction = "CH"\n'
    row += 'targets = [{ name = "lab-box", kind = "in_process" }]\n'
    (tmp_path / "north.toml").write_text(SITE + row)
    site = read_sites([tmp_path], anchor=date(2026, 1, 1))["north"]
    assert ("lab-box", "lab", "CH") in [(c.target, c.location, c.jurisdiction) for c in site.candidates()]
