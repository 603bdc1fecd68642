"""What the package says that the paper prints, against the recipes and readers that follow it."""

from __future__ import annotations

from mlrec.config_layers import recipe_chain, resolve
from mlrec.datasets.readers import wider
from mlrec.reports.paper.published import DATASETS, paper_rows, paper_settings


def test_recipe_paper_trains_as_the_paper_prints() -> None:
    printed = paper_settings()["training"]
    for kind in ("voc2007", "voc2012", "coco", "wider"):
        for head, rate in printed["head_lr"].items():
            config = resolve(("flag", {"head": head}), *recipe_chain("paper"), source_kind=kind).config
            for key in ("epochs", "opt", "momentum", "weight_decay", "lr"):
                assert getattr(config, key) == printed[key], (kind, key)
            assert config.lr * config.head_lr_mult == rate
            assert config.batch_size == printed["batch_size"].get(kind, printed["batch_size"]["others"])
            assert config.img_size == printed["img_size"].get(kind, printed["img_size"]["others"])
            assert config.crop
            assert config.hflip == 0.5
            assert config.warmup_epochs > 0


def test_sizes_are_the_readers_and_the_tables() -> None:
    sizes = paper_settings()["datasets"]
    assert {
        sizes["wider"][part]["split"]: sizes["wider"][part]["samples"] for part in ("train", "test")
    } == wider.PERSONS
    assert {row.dataset for table in range(1, 9) for row in paper_rows(table)} - {"imagenet"} == set(DATASETS)
