"""Every key of a run, strictly typed; which layer wins; and what a broken file says."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import msgspec
import pytest

from mlrec import config
from mlrec.config import Config
from mlrec.config_layers import (
    parse_names,
    parse_numbers,
    parse_value,
    read_toml,
    recipe_chain,
    recipe_names,
    recipe_title,
    resolve,
)
from mlrec.utils.errors import ConfigError


def test_the_strongest_layer_wins_and_each_value_says_where_it_is_from() -> None:
    resolved = resolve(
        ("flag", {"lr": 0.5}), ("my.toml", {"lr": 0.4, "epochs": 3}), ("recipe r", {"epochs": 9, "seed": 7})
    )
    assert (resolved.config.lr, resolved.config.epochs, resolved.config.seed) == (0.5, 3, 7)
    assert [resolved.sources[key] for key in ("lr", "epochs", "seed", "opt")] == [
        "flag",
        "my.toml",
        "recipe r",
        "default",
    ]


def test_overlays_apply_for_the_source_and_the_head_in_force_the_head_last() -> None:
    recipe = {"lr": 1.0, "data": {"wider": {"lr": 2.0, "img_size": 224}}, "head": {"average": {"lr": 3.0}}}
    assert resolve(("r", recipe)).config.lr == 1.0
    assert resolve(("r", recipe), source_kind="wider").config.lr == 2.0
    both = resolve(("flag", {"head": "average"}), ("r", recipe), source_kind="wider").config
    assert (both.lr, both.img_size) == (3.0, 224)
    assert resolve(("flag", {"lr": 9.0}), ("r", recipe), source_kind="wider").config.lr == 9.0


def test_a_flat_key_of_a_stronger_layer_beats_the_overlay_of_a_weaker_one() -> None:
    fair = resolve(
        ("row", {"head": "average", "head_lr_mult": 10.0}), ("paper", {"head": {"average": {"head_lr_mult": 1}}})
    )
    assert fair.config.head_lr_mult == 10.0


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ({"learning_rat": 0.1}, "unknown key 'learning_rat'; did you mean 'lr'?"),
        ({"num_heads": 2}, "unknown key 'num_heads'; did you mean 'heads'?"),
        ({"lr": "fast"}, "lr = 'fast': expected `float`, got `str`"),
        ({"lr": math.nan}, "lr: nan is not a finite number"),
        ({"lr": math.inf}, "lr: inf is not a finite number"),
        ({"lr": 0}, "lr = 0"),
        ({"epochs": -1}, "epochs = -1: expected `int` >= 1"),
        ({"epochs": 1.5}, "epochs = 1.5"),
        ({"batch_size": True}, "batch_size = True: expected `int`, got `bool`"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"ema": 1}, "ema = 1"),
        (
            {"head": "crsa"},
            "expected one of csra, spatial, average, gcn, attention-pool, ml-decoder, q2l; did you mean 'csra'?",
        ),
        ({"scale": [0.7]}, "scale = [0.7]"),
        ({"scale": [0.9, 0.7]}, "expected 0 < smallest <= largest"),
        ({"scale": [0.9, 1.2]}, "at most 1"),
        ({"heads": 2, "temperatures": [1.0]}, "heads = 2, but the number of temperatures is 1"),
        ({"temperatures": [1.0, -1.0]}, "greater than 0"),
        (
            {"heads": 3},
            "my.toml: heads = 3: default temperatures exist only for 1, 2, 4, 6, 8 heads; set temperatures",
        ),
        ({"batch_size": 5, "grad_accum_steps": 2}, "is not divisible by grad_accum_steps = 2"),
        ({"feature_copies": 2}, "feature_copies requires freeze_backbone"),
        ({"swa_epochs": 2}, "swa_epochs requires ema"),
        ({"swa_epochs": 4, "ema": True, "epochs": 3}, "swa_epochs = 4 is larger than epochs = 3"),
        ({"data": {"wyder": {"lr": 1.0}}}, "[data.wyder]: unknown table; did you mean 'wider'?"),
        ({"head": {"csra": {"lr": -1.0}}}, "[head.csra]: lr = -1.0"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_key(layer: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(("my.toml", layer))
    assert told in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_faults_are_told_at_once_with_their_layers() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(("flag", {"lr": -1.0}), ("my.toml", {"epoch": 1, "seed": -1}))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "flag: lr" in lines[1]
    assert "my.toml: unknown key 'epoch'; did you mean 'epochs'?" in lines[2]


def test_infinite_temperatures_are_legal() -> None:
    assert resolve(("f", {"temperatures": [1.0, math.inf]})).config.temperatures == [1.0, math.inf]


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"epochs = 1\nlr = = 3\n", "lr = = 3"), (b'name = "caf\xe9"\n', "not UTF-8"), (b"lr = 1\nlr = 2\n", "lr")],
)
def test_broken_files_are_named_and_the_line_quoted(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "my.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_toml(file)
    assert "my.toml" in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "numbers"), [("1,2,inf", [1, 2, math.inf]), ("0:0.3:0.1", [0, 0.1, 0.2, 0.3]), ("5", [5])]
)
def test_lists_of_numbers(text: str, numbers: list[float]) -> None:
    assert parse_numbers(text, "lam") == numbers


@pytest.mark.parametrize("text", ["", "a", "1:2", "1:0:1", "0:1:0", "0:inf:1", "0:1e9:1e-9"])
def test_texts_that_are_no_list_of_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="lam = "):
        parse_numbers(text, "lam")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b , c", ["a", "b", "c"]),
        ('"a, b",c', ["a, b", "c"]),
        ('c, "a ""b"", d"', ["c", 'a "b", d']),
        ("5' 10\"", ["5' 10\""]),
    ],
)
def test_lists_of_names_are_quoted_as_in_csv(text: str, names: list[str]) -> None:
    assert parse_names(text) == names
    assert parse_names(written(names)) == names


def written(names: list[str]) -> str:
    """The names as Python's CSV writer puts them."""
    stream = io.StringIO()
    csv.writer(stream).writerow(names)
    return stream.getvalue().rstrip("\r\n")


@pytest.mark.parametrize("text", ["", "a,,b", ",a", '"a,b', '"a"b,c', " "])
def test_texts_that_are_no_list_of_names(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a list of names"):
        parse_names(text)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("lr", "1e-2", 0.01), ("epochs", "3", 3), ("ema", "true", True), ("heads", "6", 6), ("backbone", "12", "12"),
        ("temperatures", "1,inf", [1, math.inf]), ("epochs", "1.5", "1.5"), ("opt", "adamw", "adamw"),
        ("data", "true", "true"),
    ],
)  # fmt: skip
def test_flag_texts_become_values(key: str, text: str, value: object) -> None:
    assert parse_value(key, text) == value


def test_every_default_fits_its_own_rules_and_every_key_has_a_help_text() -> None:
    resolve(("defaults", {k: v for k, v in msgspec.to_builtins(Config()).items() if v is not None}))
    for key, annotated in config.TYPES.items():
        assert [meta.description for meta in annotated.__metadata__ if meta.description], key


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_resolves_for_every_source_and_head(name: str) -> None:
    layers = [(f"recipe {part}", tables) for part, tables in recipe_chain(name)]
    assert recipe_title(name)
    for kind in ("voc2007", "coco", "wider", "csv"):
        resolve(*layers, source_kind=kind)
    for head in ("csra", "average", "spatial", "gcn"):
        resolve(("flag", {"head": head}), *layers)


def test_the_paper_recipe_holds_the_papers_numbers() -> None:
    layers = [(f"recipe {part}", tables) for part, tables in recipe_chain("paper")]
    voc = resolve(*layers, source_kind="voc2007").config
    assert (voc.batch_size, voc.img_size, voc.epochs, voc.lr, voc.momentum) == (16, 448, 30, 0.01, 0.9)
    assert (voc.weight_decay, voc.head_lr_mult, voc.lr_step_epochs, voc.warmup_epochs) == (1e-4, 10, 4, 2)
    wider = resolve(("flag", {"head": "average"}), *layers, source_kind="wider").config
    assert (wider.batch_size, wider.img_size, wider.head_lr_mult, wider.lr_step_epochs) == (64, 224, 1, 5)


def test_the_codes_recipe_differs_where_the_code_does() -> None:
    layers = [(f"recipe {part}", tables) for part, tables in recipe_chain("paper-code")]
    wider = resolve(("flag", {"head": "average"}), *layers, source_kind="wider").config
    assert (wider.batch_size, wider.crop, wider.normalization, wider.image_backend) == (16, False, "half", "pil")
    assert (wider.head_lr_mult, wider.warmup_from_zero) == (10, True)
    assert resolve(*layers, source_kind="coco").config.normalization == "unit"


def test_an_unknown_recipe_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'paper'"):
        recipe_chain("papper")


def test_of_many_faults_all_are_told_on_few_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(("c.toml", {f"{letter}{letter}1": 1 for letter in "abcdefghijklmnopqrstuvwxyz"}))
    told = str(caught.value)
    assert len(told.splitlines()) == 12
    assert all(f"'{letter}{letter}1'" in told for letter in "abcdefghijklmnopqrstuvwxyz")
