import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.lineage.secrets import REDACTED, Scrubber, is_secret_name

LEAKS = [
    "could not reach postgres://plant:{}@db.example:5432/state",
    "amqps://{}:{}@broker",
    "login failed: password={} for user plant",
    'config {{"api_key": "{}", "host": "db"}}',
    "PASSWORD: {}",
    "Authorization: Bearer {}",
    "https://store.example/data?sig={}&se=2025",
    "AccountKey={};EndpointSuffix=core",
    "aws_secret_access_key = {}",
]


@pytest.mark.parametrize("text", LEAKS)
@given(secret=st.from_regex(r"[A-Za-z0-9]{10,40}", fullmatch=True))
def test_what_looks_like_a_secret_is_taken_out(text: str, secret: str) -> None:
    scrubbed = Scrubber().text(text.format(secret, secret))
    assert secret not in scrubbed
    assert REDACTED in scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefgh",
        "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
        "ghp_0123456789abcdefghijABCDEFGHIJ",
    ],
)
def test_keys_are_known_by_their_form(text: str) -> None:
    assert Scrubber().text(f"found {text} here") == f"found {REDACTED} here"


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: the stone broke",
        "s3://bucket/key is missing",
        "Prognoses and rule assessments of 2025-01-01 to 2025-01-02 are not of the same readings.",
        "passed=3 failed=1",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert Scrubber().text(text) == text


@given(st.text(min_size=5, max_size=40), st.text(), st.text())
def test_a_known_secret_is_in_no_text(secret: str, before: str, after: str) -> None:
    assert secret not in Scrubber([secret]).text(before + secret + after).replace(REDACTED, "")


@pytest.mark.parametrize(
    "name",
    ["DB_PASSWORD", "HYBRID_API_TOKEN", "client_secret", "aws_access_key_id", "signing-key", "CONNECTION_STRING"],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["HYBRID_HOME", "keys", "monkey", "passed", "partition_key_count", "DAGSTER_HOME"])
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


def test_settings_are_scrubbed_by_name_at_any_depth() -> None:
    settings = {"broker": {"host": "b", "password": "p4ss"}, "list": [{"token": "t0k3n-value", "n": 1}], "rows": 3}
    assert Scrubber().value(settings) == {
        "broker": {"host": "b", "password": REDACTED},
        "list": [{"token": REDACTED, "n": 1}],
        "rows": 3,
    }


def test_values_of_secret_settings_are_known_elsewhere() -> None:
    scrubber = Scrubber.of({"broker": {"password": "long-enough"}})
    assert scrubber.text("refused: long-enough") == f"refused: {REDACTED}"
