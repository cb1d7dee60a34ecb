"""YAML as people write it means what it means everywhere, but for what is refused."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resources.catalog.yaml_documents import parse

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.dates()
DOCUMENTS = st.recursive(SCALARS, lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=20)


@given(DOCUMENTS, st.booleans())
def test_a_document_means_what_it_does_everywhere(document: Any, flow: bool) -> None:
    text = yaml.safe_dump(document, default_flow_style=flow)
    assert parse(text) == yaml.safe_load(text) == document


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {b: 1, c: [2]}\nd: *x\n",
        "a: &x {b: 1}\nd: {<<: *x, b: 2}\n",
        "a: {<<: [{b: 1}, {c: 3}]}",
        "a: !!str 5\nb: !!float 5\nc: !!set {x, y}\nd: !!omap [x: 1]\ne: !!binary aGk=\n",
        "a: 0x1f\nb: 1_000\nc: yes\nd: ~\ne: 'no'\nf: 2024-01-01 10:00:00\n",
        "",
    ],
)
def test_anchors_merges_and_tags_are_understood(text: str) -> None:
    assert parse(text) == yaml.safe_load(text)


def test_what_is_named_many_times_over_is_built_once() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    document = parse("\n".join(lines))
    assert isinstance(document, dict)
    assert document["a2"][0] is document["a1"]


def test_what_holds_itself_does() -> None:
    document = parse("a: &x {b: [*x]}\n")
    assert isinstance(document, dict)
    assert document["a"]["b"][0] is document["a"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", "line 2: 'c' is there twice"),
        ("a: 1\n? [b]\n: 2\n", "line 2: a key is no text"),
        ("a: 1\n2: b\n", "line 2: a key is no text"),
        ("a: !!seq b\n", "line 1: expected a sequence"),
        ("a: !ours b\n", "line 1: could not determine a constructor"),
        ("a: !!python/object:os.system b\n", "line 1: could not determine a constructor"),
        ("[" * 5_000 + "]" * 5_000, "nested too deeply"),
        ("a: [1\n", "line 2: "),
    ],
)
def test_what_is_refused_says_where(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(text)
