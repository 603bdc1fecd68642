"""Texts in one buffer behave as a tuple of them, and comparisons of many names as those of sets."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrec.utils import texts
from mlrec.utils.texts import Texts

TEXT = st.text(st.characters(min_codepoint=1), max_size=6) | st.sampled_from(["a.jpg", "ü", "\ud800", "", "𝒳/a"])
LIST = st.lists(TEXT, max_size=40)


@settings(deadline=None)
@given(LIST)
def test_texts_are_the_tuple(names: list[str]) -> None:
    held = Texts.of(names)
    assert held == tuple(names) == held
    assert list(held) == names
    assert [held[k] for k in range(-len(names), len(names))] == names * 2
    assert held[1:5] == names[1:5]
    assert pickle.loads(pickle.dumps(held)) == names
    assert (held != tuple(names)) is False
    assert held != [*names, "more"]
    with pytest.raises(IndexError):
        held[len(names)]


@settings(deadline=None)
@given(LIST, LIST)
def test_comparisons_are_those_of_sets(names: list[str], others: list[str]) -> None:
    first = texts.first_places(Texts.of(names))
    assert first.tolist() == [names.index(name) for name in names]
    assert texts.distinct(names) == len(set(names))
    assert texts.repeated(Texts.of(names)) == list(dict.fromkeys(n for k, n in enumerate(names) if n in names[:k]))
    assert texts.shared(names, Texts.of(others)) == set(names) & set(others)
    assert texts.shared_with(names, others).tolist() == [name in others for name in names]
    assert texts.joined([names, Texts.of(others)]) == names + others
    ranked = [name for name in names if "\ud800" not in name]
    assert texts.ranks(ranked).tolist() == [sorted(set(ranked)).index(name) for name in ranked]


def test_texts_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "hash", lambda text: 1, raising=False)
    assert texts.first_places(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 3]


@settings(deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=40), st.lists(st.integers(0, 39), max_size=50))
def test_some_texts(names: list[str], places: list[int]) -> None:
    chosen = np.array([k % len(names) for k in places], dtype=np.intp)
    expected = tuple(names[k] for k in chosen)
    assert texts.taken(Texts.of(names), chosen) == texts.taken(tuple(names), chosen) == expected


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{'é' * (k % 3)}{k}" for k in range(50)]
    monkeypatch.setattr(texts, "BLOCK", 7)
    monkeypatch.setattr(texts.ragged, "BLOCK", 3)
    held = Texts.of(names)
    assert held == names
    assert held[::3] == names[::3]
