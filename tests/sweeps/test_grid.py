"""Axes as typed, their grid, and the names of runs."""

from __future__ import annotations

import math

import pytest

from mlrec.sweeps.grid import axis_values, combinations, in_words, run_name, split_axes
from mlrec.utils.errors import ConfigError, UsageError


@pytest.mark.parametrize(
    ("key", "text", "values"),
    [
        ("lam", "0,0.1,0.2", [0.0, 0.1, 0.2]),
        ("lam", "0:1:0.25", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("heads", "1:4:1", [1, 2, 3, 4]),
        ("head", "csra, average", ["csra", "average"]),
        ("normalize", "true,false", [True, False]),
        ("temperatures", "1;1,inf", [[1.0], [1.0, math.inf]]),
        ("scale", "0.7,1;0.5,1", [[0.7, 1.0], [0.5, 1.0]]),
        ("device", "cuda:0", ["cuda:0"]),
        ("lr", "1e-3", [0.001]),
    ],
)
def test_values_of_an_axis(key, text, values):
    parsed = axis_values(key, text)
    assert parsed == values
    assert [type(value) for value in parsed] == [type(value) for value in values]


def test_duplicate_values_and_unknown_keys_are_refused():
    with pytest.raises(UsageError, match="duplicate value"):
        axis_values("lam", "0.1,0.2,0.10")
    with pytest.raises(UsageError, match="unknown key 'lamda'; did you mean 'lam'"):
        split_axes({"lamda": "0,1"})
    with pytest.raises(ConfigError, match="start:stop:step"):
        axis_values("lam", "0:1")


def test_single_values_are_not_axes():
    fixed, axes = split_axes({"lam": "0,0.5", "heads": "2", "freeze_backbone": True, "lr": "0.1,0.01"})
    assert fixed == {"heads": 2, "freeze_backbone": True}
    assert axes == {"lam": [0.0, 0.5], "lr": [0.1, 0.01]}
    assert combinations(axes) == [
        {"lam": 0.0, "lr": 0.1}, {"lam": 0.0, "lr": 0.01}, {"lam": 0.5, "lr": 0.1}, {"lam": 0.5, "lr": 0.01},
    ]  # fmt: skip
    assert combinations({}) == [{}]


def test_names_are_safe_for_paths_and_differ_if_anything_differs():
    settings = {"lam": 0.1, "temperatures": [1.0, math.inf], "backbone": "hub/../a b", "normalize": False}
    name = run_name("H = 2, all T = 1", settings, {"config": {"lr": 0.1}})
    stem, _, digits = name.rpartition("-")
    assert stem == "H_2_all_T_1-lam0.1-temperatures1+inf-backbonehub_.._a_b-normalizeoff"
    assert len(digits) == 10
    assert name != run_name("H = 2, all T = 1", settings, {"config": {"lr": 0.2}})
    assert name == run_name("H = 2, all T = 1", settings, {"config": {"lr": 0.1}})
    assert len(run_name("", {"data": "x" * 500}, 0)) <= 111
    assert not run_name("", {"data": "../x"}, 0).startswith(".")
    assert in_words(settings).startswith("lam 0.1, temperatures 1+inf")
