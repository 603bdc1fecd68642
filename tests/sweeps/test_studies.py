"""The paper's studies: the settings of its tables, and controls."""

from __future__ import annotations

import math

import pytest

from mlrec.config import TEMPERATURES, Config
from mlrec.config_layers import resolve
from mlrec.models.classifier import HEADS
from mlrec.reports.paper.published import paper_rows
from mlrec.sweeps.studies import DEFAULTS, check, study
from mlrec.utils.errors import UsageError

BASE = Config(head_lr_mult=10.0)


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_variant_is_a_valid_configuration_and_no_two_are_the_same(name):
    found = study(name, BASE)
    configs = [resolve(("study", {**found.defaults, **flags})).config for flags in found.variants.values()]
    assert len(set(map(repr, configs))) == len(configs)
    for key, values in {**found.axes, **found.tune}.items():
        assert [getattr(resolve(("study", {key: value})).config, key) for value in values] == list(values)


def test_settings_of_the_paper():
    assert list(study("figure5", BASE).axes["lam"]) == [0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2]
    average, spatial, both = study("table6", BASE).variants.values()
    assert average == {"head": "csra", "lam": 0.0}
    assert spatial == {"head": "spatial"}
    assert both == {"head": "csra"}
    heads = [flags["heads"] for flags in study("table7", BASE).variants.values() if list(flags) == ["heads"]]
    assert heads == sorted(TEMPERATURES)
    normalize = study("table8", BASE)
    assert [(flags["heads"], flags["normalize"]) for flags in normalize.variants.values()] == [
        (2, True), (2, False), (4, True), (4, False),
    ]  # fmt: skip
    assert list(normalize.tune["head_lr_mult"]) == [1.0, 3.0, 10.0, 30.0, 100.0]


def test_controls_of_table_7_have_equal_temperatures_or_logits_as_large():
    variants = list(study("table7", BASE).variants.values())
    equal = [flags for flags in variants if "temperatures" in flags]
    scaled = [flags for flags in variants if "logit_scale" in flags]
    assert [flags["heads"] for flags in equal] == [flags["logit_scale"] for flags in scaled] == [2, 4, 6, 8]
    assert all(flags["temperatures"] == [1.0] * flags["heads"] for flags in equal)
    assert all(flags["heads"] == 1 for flags in scaled)


def test_the_fair_rows_differ_in_one_thing_at_a_time():
    rows = list(study("compare", BASE).variants.values())
    assert rows == [
        {"head": "average", "head_lr_mult": 1.0},
        {"head": "average", "head_lr_mult": 10.0},
        {"head": "csra", "lam": 0.0, "head_lr_mult": 10.0},
        {"head": "csra"},
    ]


def test_the_study_of_heads_trains_every_head_at_a_learning_rate_of_its_own():
    found = study("heads", BASE)
    assert {flags["head"] for flags in found.variants.values()} == set(HEADS)
    assert list(found.tune) == ["lr"]
    assert found.defaults["head_lr_mult"] == 1.0


def test_the_error_for_an_unknown_study_lists_all_studies():
    with pytest.raises(UsageError, match="table6, table7, table8, figure5, compare, heads; did you mean 'table6'"):
        check("tabel6")


@pytest.mark.parametrize(("name", "runs"), [("table6", 3), ("table7", 5), ("table8", 4), ("figure5", 10)])
def test_a_study_of_the_paper_only_has_the_rows_of_the_printed_table(name, runs):
    found = study(name, BASE, paper_only=True)
    assert not found.tune
    assert not found.notes
    assert len(found.variants) * math.prod(map(len, found.axes.values())) == runs
    configs = [resolve(("study", {**found.defaults, **flags})).config for flags in found.variants.values()]
    if name == "figure5":
        assert [config.heads for config in configs] == [1]
        return
    facts = [(row.head, row.heads, "unnormalised" not in row.method) for row in paper_rows(int(name[-1]))]
    if name == "table6":  # H of average pooling has no meaning
        assert [config.head for config in configs] == [head for head, _, _ in facts]
        return
    rows = [(config.head, config.heads, config.normalize is not False) for config in configs]
    assert rows == list(dict.fromkeys(facts))


def test_paper_only_is_refused_without_a_study_of_the_paper():
    for name in (None, "compare", "heads"):
        with pytest.raises(UsageError, match="--paper-only requires --study table6, table7, table8, figure5"):
            check(name, paper_only=True)
