"""Every recipe takes a training step, with its smallest sibling backbone here and with its own in the long run."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mlrec.config import FIELDS, Config
from mlrec.config_layers import recipe_chain, recipe_names, recipe_text, recipe_title, resolve
from mlrec.datasets.manifest import Manifest
from mlrec.lineage import CUTMIX_TAG
from mlrec.models.backbones import paper_weights
from mlrec.training import setup
from mlrec.training.dataloader import Batch
from mlrec.training.loop import Steps, fit
from mlrec.training.losses import loss_function

SMALLEST = {
    "resnet101": "test_resnet", "vit_base_patch16_224": "test_vit", "vit_large_patch16_224": "test_vit",
    "mobilenetv2_100": "test_efficientnet", "efficientnet_b3": "test_efficientnet",
    "tf_efficientnet_lite0": "test_efficientnet",
}  # fmt: skip
DATA = Manifest("d", "train", Path(), ("a", "b", "c"), ("x.jpg", "y.jpg"), np.eye(3, dtype=np.int8)[:2])
CPU = torch.device("cpu")


def written(name: str) -> Config:
    """The recipe on the dataset that its name begins with."""
    kind = {"coco": "coco", "wider": "wider"}.get(name.partition("-")[0], "voc2007")
    return resolve(*recipe_chain(name), source_kind=kind).config


def config_of(name: str) -> Config:
    return msgspec.structs.replace(
        written(name),
        pretrained=False,
        weights=None,
        freeze_backbone=False,
        channels_last=False,
        batch_size=2,
        grad_accum_steps=1,
    )


def takes_a_step(config: Config, size: int) -> None:
    model = setup.build_model(config, DATA, paper=False)
    state = setup.make_state(model, config, CPU, "fp32")
    network = setup.make_network(state, config, CPU, "fp32")
    before = [p.detach().clone() for p in model.head.parameters()]
    batch = Batch(
        torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8), torch.from_numpy(DATA.targets), torch.arange(2)
    )
    # two steps: the first of the paper's code has learning rate 0
    events = fit(state, network, iter([batch, batch]), loss_function(config, DATA), config, steps_per_epoch=2)
    first, second = next(events), next(events)
    assert isinstance(first, Steps)
    assert isinstance(second, Steps)
    assert math.isfinite(second.loss)
    assert second.lr > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, model.head.parameters(), strict=True))


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_takes_a_step_with_a_small_backbone(name: str) -> None:
    config = config_of(name)
    takes_a_step(msgspec.structs.replace(config, backbone=SMALLEST[config.backbone], img_size=32), 32)


@pytest.mark.long
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_takes_a_step_with_its_own_backbone(name: str) -> None:
    config = config_of(name)
    takes_a_step(config, config.img_size)


# recipe: (H, λ, head, size, batch, decay every so many epochs, head lr) as the paper and its code have them
PRINTED = {
    "voc-resnet101": (None, None, "average", 448, 16, 4, 1),
    "voc-resnet101-csra": (1, 0.1, "csra", 448, 16, 4, 10),
    "voc-cut-csra": (1, 0.1, "csra", 448, 16, 4, 10),
    "coco-resnet101": (None, None, "average", 448, 16, 5, 1),
    "coco-resnet101-csra": (6, 0.5, "csra", 448, 16, 5, 10),
    "coco-resnet101-csra-h4": (4, 0.5, "csra", 448, 16, 5, 10),
    "coco-cut-csra": (6, 0.4, "csra", 448, 16, 5, 10),
    "coco-cut-spatial": (1, None, "spatial", 448, 16, 5, 10),
    "coco-vit-l16-csra": (8, 1.0, "csra", 448, 16, 5, 10),
    "coco-gcn": (None, None, "gcn", 448, 16, 5, 1),
    "wider-vit-b16": (None, None, "average", 224, 64, 5, 1),
    "wider-vit-b16-csra": (1, 0.3, "csra", 224, 64, 5, 10),
    "wider-vit-l16-csra-code": (1, 0.3, "csra", 224, 16, 5, 10),
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_experiments_hold_the_papers_settings(name: str) -> None:
    heads, lam, head, size, batch, every, mult = PRINTED[name]
    config = written(name)
    found = (config.head, config.img_size, config.batch_size, config.lr_step_epochs, config.head_lr_mult)
    assert found == (head, size, batch, every, mult)
    assert heads is None or config.heads == heads
    assert lam is None or config.lam == lam


@pytest.mark.parametrize(
    ("name", "papers"),
    [
        ("voc-mlrec", "voc-resnet101-csra"), ("coco-mlrec", "coco-resnet101-csra"),
        ("wider-mlrec", "wider-vit-b16-csra"),
    ],
)  # fmt: skip
def test_todays_recipe_of_a_data_set_changes_what_recipe_mlrec_does_and_no_more(name: str, papers: str) -> None:
    ours, theirs = written(name), written(papers)
    changed = {key for key in FIELDS if getattr(ours, key) != getattr(theirs, key)}
    plain = resolve(*recipe_chain("mlrec")).config, resolve(*recipe_chain("paper")).config
    differing = {key for key in FIELDS if getattr(plain[0], key) != getattr(plain[1], key)}
    assert changed <= differing | {"head_lr_mult"}
    assert {"epochs", "head_epochs", "freeze_bn", "opt", "lr_schedule", "ema", "unknown"} <= changed


@pytest.mark.parametrize(
    "name", [name for name in recipe_names() if name.partition("-")[0] in ("voc", "coco", "wider")]
)
def test_every_experiment_is_headed_by_its_command_and_the_printed_number(name: str) -> None:
    head = recipe_text(name).partition("\n\n")[0]
    assert f"--recipe {name}" in head
    assert "Table" in recipe_title(name)
    assert "# Paper: mAP" in head
    assert "# Paper and code: " in head


CUT = [name for name in recipe_names() if "cut" in name.split("-")]
VIT_L = [name for name in recipe_names() if "vit-l16" in name]


@pytest.mark.parametrize("name", CUT)
def test_recipes_of_resnet_cut_state_where_the_file_comes_from_and_declare_its_origin(name: str) -> None:
    head = recipe_text(name).partition("\n\n")[0]
    assert "clovaai/CutMix-PyTorch" in head
    assert "Kevinz-code/CSRA" in head
    assert written(name).weights_origin == CUTMIX_TAG


@pytest.mark.parametrize("name", VIT_L)
def test_recipes_of_vit_l_state_that_augreg_weights_stand_in(name: str) -> None:
    head = recipe_text(name).partition("\n\n")[0].replace("\n# ", " ")
    assert "AugReg's weights (augreg_in21k_ft_in1k), from a different training recipe, are used instead" in head
    assert "jx_vit_large_p16_224-4ee7a4dc.pth" in head
    assert paper_weights(written(name).backbone).endswith(".augreg_in21k_ft_in1k"), "what the recipe states is so"


def test_the_baseline_that_the_authors_report() -> None:
    for kind in ("coco", "voc2007", "voc2012", "wider"):
        config = resolve(*recipe_chain("paper-baseline"), source_kind=kind).config
        assert (config.head, config.lr, config.head_lr_mult) == ("average", 0.01, 1)
        assert (config.epochs, config.lr_schedule, config.lr_step_epochs) == (40, "step", 15)


@pytest.mark.parametrize("name", ["voc-resnet101", "voc-resnet101-csra", "voc-cut-csra", "voc-mlrec"])
def test_recipes_of_table_3_set_its_splits(name: str) -> None:
    voc2012 = resolve(*recipe_chain(name), source_kind="voc2012").config
    assert (voc2012.train_split, voc2012.split) == ("trainval", "test")
    assert "--train-split" not in recipe_text(name)
    voc2007 = written(name)
    assert (voc2007.train_split, voc2007.split) == (None, None)


def test_randaugment_of_the_papers_row_is_torchvisions_default() -> None:
    default = v2.RandAugment()
    config = written("coco-vit-l16-csra-randaugment")
    assert (config.randaugment, config.randaugment_magnitude) == (default.num_ops, default.magnitude)
