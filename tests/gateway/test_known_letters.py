"""Dead letters that were kept are known by who sent them and all that was sent, over restarts, in bounded memory."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.errors import IntegrityError
from gateway.decoding import digest_of
from gateway.known_letters import KnownLetters, read_letters, write_letters

LETTERS = st.tuples(
    st.sampled_from(["dev", "d", "", "P-\udcff"]), st.integers(0, 9).map(lambda n: digest_of(bytes([n])))
)


@given(st.lists(LETTERS), st.lists(LETTERS))
def test_what_was_kept_is_known_after_it_was_written(
    kept: list[tuple[str, bytes]], others: list[tuple[str, bytes]]
) -> None:
    letters = KnownLetters()
    for letter in kept:
        letters.keep(*letter)
    read = KnownLetters.from_bytes(letters.to_bytes())
    assert [read.has(*letter) for letter in [*kept, *others]] == [letter in kept for letter in [*kept, *others]]
    assert len(read) == len(set(kept))


def test_the_one_that_was_not_sent_for_longest_is_forgotten() -> None:
    letters = KnownLetters(most=3)
    first, second, third, fourth = (digest_of(bytes([n])) for n in range(4))
    for digest in (first, second, third):
        letters.keep("dev", digest)
    assert letters.has("dev", first)
    letters.keep("dev", fourth)
    assert [letters.has("dev", digest) for digest in (first, second, third, fourth)] == [True, False, True, True]
    fewer = KnownLetters.from_bytes(letters.to_bytes(), most=1)
    assert (len(fewer), fewer.has("dev", fourth)) == (1, True)


def test_a_file_that_is_not_there_says_nothing_and_one_that_is_damaged_says_so(tmp_path: Path) -> None:
    letters = read_letters(tmp_path / "letters")
    assert len(letters) == 0
    letters.keep("dev", digest_of(b"{"))
    write_letters(tmp_path / "letters", letters.to_bytes())
    whole = (tmp_path / "letters").read_bytes()
    assert read_letters(tmp_path / "letters").has("dev", digest_of(b"{"))
    for damaged in (whole[:-1], b"", b"\0" + whole[1:], whole[:12] + bytes([whole[12] ^ 1]) + whole[13:]):
        (tmp_path / "letters").write_bytes(damaged)
        with pytest.raises(IntegrityError):
            read_letters(tmp_path / "letters")
