"""The page on training in Python: each block is run with the real libraries, on a few small images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import mlrec
from mlrec.datasets.readers.shapes import draw_shapes
from mlrec.run_folders import directory
from mlrec.workflows.data.prepare import prepare
from tests.test_docs import DOCS, run_block

PAGE = (DOCS / "how-to" / "python-training.md").read_text(encoding="utf-8")
SMALL = {  # other words for the same steps: small networks without weights, small images, one epoch
    'backbone="resnet50"': 'backbone="test_resnet", pretrained=False, img_size=64, batch_size=4, device="cpu"',
    '"resnet50", pretrained=True': '"test_resnet"',
    '"vit_base_patch16_224", pretrained=True': '"test_vit", img_size=224',
    "(224, 224)": "(64, 64)",
    "epochs=5": "epochs=1",
    "max_epochs=5": 'max_epochs=1, accelerator="cpu", enable_checkpointing=False, logger=False',
    "range(5)": "range(1)",
    'TrainingArguments("out")': 'TrainingArguments("out", num_train_epochs=1, report_to="none", use_cpu=True)',
}


def section(heading: str) -> list[str]:
    text = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def small(code: str) -> str:
    for text, other in sorted(SMALL.items(), key=lambda pair: -len(pair[0])):
        code = code.replace(text, other)
    return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    draw_shapes(root / "shapes", images={"train": 20, "val": 8})
    prepare("shapes", root / "shapes", out=root / "data")
    return root


@pytest.fixture
def names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the block on data and model defines; the blocks are run in a folder with the data."""
    monkeypatch.chdir(folder)
    return run_block(small(section("Data and model for the training loops")[0]), mlrec=mlrec)


def test_line_counts_of_the_page_are_those_of_its_blocks() -> None:
    rows = re.findall(r"^\| \[([^\]]+)\]\(#[\w-]+\) \| (\d+) \|", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for heading, count in rows:
        code = section(heading[0].upper() + heading[1:] if heading != "timm" else heading)[0]
        lines = [line for line in code.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        assert len(lines) == int(count) <= 15, heading


def test_training_evaluation_and_callbacks_run_as_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    first, callback = section("Train in one call")
    names = run_block(small(first))
    assert names["run"].config["heads"] == 2
    run_block(small(section("Evaluate a run")[0]), **names)
    names = run_block(small(callback), **names)
    (epoch,) = (entry for entry in directory.log_entries(names["run"].path) if entry["event"] == "epoch")
    printed = capsys.readouterr().out
    assert f"1 {epoch['loss']} {{'val/mAP': {names['run'].metrics().mAP}}}" in printed


def test_unknown_labels_have_no_part_in_the_losses(names: dict[str, Any]) -> None:
    torch = names["torch"]
    logits, targets = torch.tensor([[2.0, -1.0], [0.5, 3.0]]), torch.tensor([[1.0, -1.0], [0.0, -1.0]])
    loss = names["loss_function"](*names["known"](logits, targets))
    first_label = names["loss_function"](logits[:, 0], targets[:, 0])  # the second label is unknown in both samples
    torch.testing.assert_close(loss, first_label)
    for heading in ("Plain PyTorch", "Lightning", "Hugging Face Trainer", "timm"):
        assert "(*known(" in section(heading)[0]


def test_csra_reads_the_tokens_of_a_vision_transformer(names: dict[str, Any]) -> None:
    made = run_block(small(section("Data and model for the training loops")[1]).replace("64, 64", "224, 224"), **names)
    assert made["logits"].shape == (1, len(names["manifest"].labels))


def trained(names: dict[str, Any], code: str) -> dict[str, Any]:
    """Run a loop; the weights of backbone and head have changed, and all of them are finite."""
    before = [weight.detach().clone() for weight in names["model"].parameters()]
    after = run_block(small(code), **names)
    weights = list(names["model"].parameters())
    assert sum(not weight.equal(old) for weight, old in zip(weights, before, strict=True)) > len(weights) / 2
    assert not weights[-1].equal(before[-1])  # of the head
    assert all(weight.isfinite().all() for weight in weights)
    return after


def test_plain_pytorch(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    after = trained(names, section("Plain PyTorch")[0])
    assert after["logits"].shape == (20, len(names["manifest"].labels))
    assert 0 < float(capsys.readouterr().out) <= 1


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:The number of training batches")
def test_lightning(names: dict[str, Any]) -> None:
    pytest.importorskip("lightning", reason="NOT RUN: needs pip install 'mlrec[examples]'")
    after = trained(names, section("Lightning")[0])
    assert after["trainer"].global_step == 2
    assert after["trainer"].callback_metrics["train/loss"] > 0


def test_timm(names: dict[str, Any]) -> None:
    after = trained(names, section("timm")[0])
    assert after["epochs"] >= 1


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_hugging_face_trainer(names: dict[str, Any]) -> None:
    pytest.importorskip("transformers", reason="NOT RUN: needs pip install 'mlrec[examples]'")
    after = trained(names, section("Hugging Face Trainer")[0])
    assert after["trainer"].state.global_step == 3
    assert 0 < after["trainer"].evaluate()["eval_mAP"] <= 1
