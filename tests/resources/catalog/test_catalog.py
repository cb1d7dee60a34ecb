"""Plants and classes are data, and wrong data says where and what to do."""

import subprocess
import sys
from pathlib import Path

import pytest

from backbone.errors import ConfigurationError, ContractError, UnknownName
from resources.catalog.contracts import SHIPPED, SUFFIX, read_contract, read_contracts
from resources.home import Home
from resources.plant import Catalog
from tests.fan_contract import FAN

SITE = """\
[calendar]
first_day = 2025-01-01
last_day = 2025-01-31
[fleets.fan]
source = { kind = "files" }
[[locations]]
name = "edge"
kind = "edge"
zone = "cell"
jurisdiction = "DE"
[[locations]]
name = "on_prem"
kind = "on_prem"
zone = "plant"
jurisdiction = "DE"
[[locations]]
name = "cloud"
kind = "cloud"
zone = "cloud"
jurisdiction = "IE"
[[targets]]
name = "worker"
location = "cloud"
kind = "subprocess"
[workloads]
training = "worker"
evaluation = "worker"
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


def catalog(home: Home, site: str = SITE, contract: str = FAN) -> Catalog:
    (home.sites / "north.toml").write_text(site)
    (home.contracts / f"fan{SUFFIX}").write_text(contract)
    return Catalog(home)


def test_a_users_own_class_and_plant_stand_beside_those_that_ship(home: Home) -> None:
    known = catalog(home)
    assert known.contracts["fan"].inputs == ("speed_rpm",)
    assert known.site("north").classes == ("fan",)
    assert set(read_contracts([SHIPPED])) < set(known.contracts)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("primaryKey: true, primaryKeyPosition: 1", "primaryKye: true", "primaryKye"),
        ("value: rpm", "value: furlong", r"'furlong' is no unit.*rpm"),
        ("value: input", "value: sensor", r"'sensor' is no role.*input"),
        ("minimum: 0, maximum: 3000", "minimum: 3000, maximum: 0", "Swap them"),
        ("logicalType: timestamp", "logicalType: time", r"'time' is no logicalType.*timestamp"),
        ("logicalType: timestamp", "logicalType: date", r"ts.*timestamp"),
        ("name: equipment_id", "name: machine", r"equipment_id.*string"),
        ("name: speed_rpm", "name: ts", "twice"),
        ("kind: DataContract", "kind: Contract", r"line 2, at kind"),
        ("minimum: 0,", "minimun: 0,", r"line 14, .*no key 'minimun' here; known: .*minimum"),
        ("properties:\n", "propertys:\n", r"line 9, .*no key 'propertys' here; known: .*properties"),
        ("property: role,", "property: rol,", r"line 15: .*'speed_rpm': 'rol' is no custom property.*unit, role"),
        ("status: active", "status: active\nstatus: active", r"no YAML: line 7: 'status' is there twice"),
        ("status: active", "status: active\n2: two", r"line 7: a key is no text"),
        ("status: active", "status: &a [*a]", r"line 6, at status"),
        ("version: 1.0.0", "version: 1.0", r"line 5, at version"),
        ("  - name: telemetry\n", "  - name: telemetry\n  - name: more\n", r"2 schema objects"),
        ("apiVersion: v3.2.0", "apiVersion: [", "no YAML"),
        (
            "  - name: telemetry\n",
            "  - name: telemtry\n",
            r"line 8: .*'telemtry' is no data product we know.*telemetry, ",
        ),
        (
            "primaryKeyPosition: 2",
            "primaryKeyPosition: 3",
            r"line 11: .*'ts': primaryKeyPosition is 3.*not given yet: 2",
        ),
        (
            "logicalType: number",
            "logicalTyp: number",
            r"3\.2\.0: line 13, [^;]*no key 'logicalTyp' here; known: [^;]*$",
        ),
        ("logicalType: number\n", "description: n\n", r"line 12: .*'speed_rpm': '' is no logicalType.*number"),
        ("kind: DataContract", "knid: DataContract", r"3\.2\.0: line 2, at knid: [^;]*; known: [^;]*$"),
        (
            "kind: DataContract",
            "team: {nam: x}",
            r"line 2, at team/nam: [^;]*'nam'.*; at the top: 'kind' is a required",
        ),
        (
            "kind: DataContract",
            "kind: DataContract\nservers: [{server: a, typ: local}]",
            r"3\.2\.0: line 3, .*'typ' here",
        ),
    ],
)
def test_a_wrong_contract_names_the_file_and_the_place(home: Home, old: str, new: str, says: str) -> None:
    assert old in FAN
    path = home.contracts / f"fan{SUFFIX}"
    path.write_text(FAN.replace(old, new, 1))
    with pytest.raises(ContractError, match=says) as caught:
        read_contract(path)
    assert str(path) in str(caught.value)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "files"', 'kind = "telepathy"', r"no source.*'telepathy'.*files"),
        ("[fleets.fan]", "[fleets.fam]", r"'fam'; known:.*fan"),
        ('kind = "subprocess"', 'kind = "abacus"', r"no target kind.*'abacus'.*subprocess"),
        ('location = "cloud"', 'location = "clout"', r"no location.*'clout'.*cloud, edge, on_prem"),
        ('training = "worker"', 'training = "walker"', r"no target.*'walker'.*worker"),
        (
            'training = "worker"',
            'trainign = "worker"',
            r"line 26: .*no workload.*'trainign'; known: evaluation, scoring, training",
        ),
        ("last_day = 2025-01-31", "last_day = 2024-01-31", "Swap them"),
        ("first_day = 2025-01-01", 'first_day = "2025"', "Write it bare"),
        ("first_day = 2025-01-01", "history_days = 0", "above 0"),
        ("first_day = 2025-01-01", "", "either first_day or history_days"),
        ("[calendar]", "[calender]", r"no key in site north named 'calender'"),
        ('kind = "edge"', 'kind = "ledge"', r"location kind.*'ledge'.*edge"),
        ('kind = "subprocess"', 'kind = "subprocess"\ntimeout_s = 0', r"line 25: .*timeout_s is 0.*greater than 0"),
        ("[workloads]", "[workloads", "no TOML"),
    ],
)
def test_a_wrong_site_says_what_is_valid(home: Home, old: str, new: str, says: str) -> None:
    assert old in SITE
    known = catalog(home, site=SITE.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=says):
        assert known.sites


def test_an_unknown_site_lists_those_that_exist(home: Home) -> None:
    with pytest.raises(UnknownName, match=r"no site named 'south'; known: .*north"):
        catalog(home).site("south")


def test_two_contracts_of_one_name_are_refused(home: Home) -> None:
    (home.contracts / f"other{SUFFIX}").write_text(FAN)
    with pytest.raises(ContractError, match="both define the contract 'fan'"):
        assert catalog(home).contracts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "but nothing"),
        ("- a list", "but a list"),
        ("only words", "but a single value"),
        ("{", "no YAML: line"),
        ("[" * 5000, "no YAML"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("\0", "no YAML"),
    ],
)
def test_a_file_that_holds_no_contract_says_what_it_holds(home: Home, text: str, says: str) -> None:
    path = home.contracts / f"fan{SUFFIX}"
    path.write_text(text)
    with pytest.raises(ContractError, match=says) as caught:
        read_contract(path)
    assert str(path) in str(caught.value)


def test_what_cannot_be_read_is_named(home: Home) -> None:
    path = home.contracts / f"fan{SUFFIX}"
    path.mkdir()
    with pytest.raises(ContractError, match=r"fan.*cannot be read"):
        read_contract(path)
    path.rmdir()
    path.write_bytes(b"name: \xff")
    with pytest.raises(ContractError, match=r"fan.*cannot be read"):
        read_contract(path)


def test_two_contracts_of_one_id_are_refused(home: Home) -> None:
    (home.contracts / f"other{SUFFIX}").write_text(FAN.replace("name: fan", "name: fen"))
    with pytest.raises(ContractError, match="both define the id 'fan-telemetry'"):
        assert catalog(home).contracts


def test_what_was_found_sound_is_not_held_against_the_standard_again(home: Home, tmp_path: Path) -> None:
    for folder in (home.contracts, tmp_path / "marks"):
        folder.mkdir(exist_ok=True)
    path = home.contracts / f"fan{SUFFIX}"
    path.write_text(FAN)
    code = (
        "import sys; from pathlib import Path; from resources.catalog.contracts import read_contract\n"
        "read_contract(Path(sys.argv[1]), marks=Path(sys.argv[2]))\n"
        "print('open_data_contract_standard' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "marks")]

    def asked_the_standard() -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert asked_the_standard() == "True"
    assert asked_the_standard() == "False"
    path.write_text(FAN.replace("speed_rpm", "speed"))
    assert asked_the_standard() == "True", "another text"
