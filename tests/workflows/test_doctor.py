"""What is broken is found, and what to do is said."""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets import dataset
from mlrec.datasets.dataset import Dataset
from mlrec.utils.errors import ConfigError, MlrecError
from mlrec.utils.signals import Interrupted
from mlrec.workflows import doctor as workflow
from mlrec.workflows.doctor import Check, Diagnosis, doctor
from mlrec.workflows.train.train import train
from tests.tiny import make_tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("doctor"))


LOCAL = {"backbone": "test_efficientnet", "img_size": 32, "pretrained": False}


def named(found: Diagnosis) -> dict[str, Check]:
    return {check.name: check for check in found.checks}


def test_a_sound_machine_and_sound_data_train(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctor(data, device="cpu", workers=0, flags=LOCAL)
    assert found.verdict != "error", found.to_dict()
    assert named(found)["training"].verdict == "ok"
    assert "samples of tiny trained, scored, saved and loaded" in named(found)["training"].found
    assert named(found)["images of val"].found.startswith("9 tested")
    assert named(found)["settings"].found == "recipe paper: train on train, score val"
    assert named(found)["weights"].found.startswith("test_efficientnet.r160_in1k: random initialization; 32 px")
    assert re.fullmatch(
        r"data: [\d,.]+ images/s with \d+ cores?; cpu: [\d,.]+ images/s; the (device|data path) limits training",
        named(found)["speed"].found,
    )
    assert not list(tmp_path.iterdir())


def test_without_data_the_training_uses_synthetic_images(tmp_path: Path) -> None:
    found = doctor(device="cpu", workers=0, data_root=tmp_path)
    assert named(found)["data"].verdict == "warning"
    assert "synthetic images" in named(found)["training"].found
    assert found.in_words() == "this machine can train; prepare a dataset first: mlrec prepare"
    assert {"settings", "weights", "speed"}.isdisjoint(named(found))


def unscored(data: Path, root: Path) -> Path:
    """A copy of the dataset whose val has no positive label."""
    copy = Dataset.load(shutil.copytree(data, root / "unscored"))
    val = copy.manifest("val")
    dataset.write(copy.path, copy.info, [copy.manifest("train"), replace(val, targets=np.zeros_like(val.targets))])
    return copy.path


@pytest.mark.parametrize(
    ("check", "flags", "recipe"),
    [
        ("settings", {"train_split": "none"}, None),
        ("settings", {"select_split": "none"}, None),
        ("settings", {"select_split": "val"}, None),
        ("settings", {"weights": "efficientnet-lite7"}, None),
        ("settings", {"init_from": "nowhere"}, None),
        ("settings", {"backbone": "resnt18"}, None),
        ("settings", {"precision": "fp16"}, None),
        ("settings", {"device": "cuda:99"}, None),
        ("settings", {"pos_weight": "nowhere.csv"}, None),
        ("", {}, "papper"),
        ("weights", {"weights": __file__}, None),
        ("weights", {"backbone": "resnet18", "weights": "efficientnet-lite0"}, None),
        ("weights", {"backbone": "vit_tiny_patch16_224", "img_size": 10}, None),
        ("weights", {"head": "gcn", "word_vectors": "nowhere.txt"}, None),
        ("weights", {"pretrained": True, "backbone": "test_mambaout", "img_size": 160}, None),
        ("weights", {"pretrained": True}, None),
    ],
)
def test_what_train_refuses_doctor_refuses_in_the_same_words(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str, flags: dict[str, Any], recipe: str | None
) -> None:
    monkeypatch.setattr("mlrec.models.hub._answers", lambda *_, **__: False)
    monkeypatch.setattr(workflow, "_training", lambda *_: iter(()))
    given = {**LOCAL, "device": "cpu", **flags}
    with pytest.raises(MlrecError) as refused:
        train({**given, "data": str(data)}, recipe=recipe, out=tmp_path)
    if not check:  # a mistake in the command, not a finding
        with pytest.raises(ConfigError, match=re.escape(str(refused.value))):
            doctor(data, flags=given, recipe=recipe, out=tmp_path)
        return
    found = doctor(data, flags=given, recipe=recipe, out=tmp_path)
    assert found.in_words().startswith("not ready to train")
    assert named(found)[check].found == str(refused.value).partition("\n")[0]


def test_data_that_cannot_be_scored_is_not_ready(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "_training", lambda *_: iter(()))
    found = doctor(unscored(data, tmp_path), device="cpu", workers=0, flags=LOCAL)
    assert found.in_words() == "not ready to train: settings"
    assert "val has 9 samples and no positive label" in named(found)["settings"].found


class Hub(BaseHTTPRequestHandler):
    """A model hub that has the weights of resnet18.a1_in1k and serves no byte of them."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path.endswith("resnet18.a1_in1k/resolve/main/model.safetensors") else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_weights_are_looked_for_on_the_hub_and_not_downloaded(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "_training", lambda *_: iter(()))
    monkeypatch.setattr("mlrec.models.hub.try_to_load_from_cache", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setattr("mlrec.models.hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("mlrec.models.hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        flags = {**LOCAL, "pretrained": True, "img_size": 64}
        found = doctor(data, device="cpu", flags={**flags, "backbone": "resnet18.a1_in1k"})
        assert "on the model hub, which is reachable" in named(found)["weights"].found
        found = doctor(data, device="cpu", flags={**flags, "backbone": "resnet34.a1_in1k"})
        assert "did not respond" in named(found)["weights"].found
        cached = tmp_path / "model.safetensors"
        monkeypatch.setattr("mlrec.models.hub.try_to_load_from_cache", lambda *_: str(cached))
        found = doctor(data, device="cpu", flags={**flags, "backbone": "resnet34.a1_in1k"})
        assert "in the local cache" in named(found)["weights"].found
    finally:
        server.shutdown()
        server.server_close()


def test_faults_of_the_data_are_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "_training", lambda *_: iter(()))
    root = tmp_path / "copy"
    shutil.copytree(data.parents[1], root)
    copy, lines = root / "data" / "tiny", (data / "val.jsonl").read_text().splitlines()
    train = (data / "train.jsonl").read_text().splitlines()
    moved = [line.replace(str(data.parents[1]), str(root)) for line in lines[:-1]]
    (copy / "val.jsonl").write_text("\n".join([*moved, train[1]]) + "\n")
    (root / "pictures" / "val00.png").write_bytes(b"no image")
    found = named(doctor(copy, device="cpu", workers=0))
    assert found["images of val"].verdict == "error"
    assert "1 of 9 tested images cannot be read" in found["images of val"].found
    assert "train and val share 1 image (first: train00.png)" in found["splits"].found
    assert named(doctor(tmp_path / "none", device="cpu", workers=0))["data"].verdict == "error"


def test_all_pairs_of_splits_and_all_labels_without_ap_are_looked_at(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "_training", lambda *_: iter(()))
    copy = Dataset.load(shutil.copytree(data, tmp_path / "folds"))
    train, val = copy.manifest("train"), copy.manifest("val")
    targets = val.targets.copy()
    targets[:, 0] = 1
    parts = [train, replace(val, targets=targets), train.subset([0, 2], "extra"), train.subset([1], "holdout")]
    info = msgspec.structs.replace(copy.info, splits={part.split: len(part) for part in parts})
    dataset.write(copy.path, info, parts)
    checks = doctor(copy.path, device="cpu", workers=0, flags=LOCAL).checks
    assert [check.found for check in checks if check.name == "splits"] == [
        "train and extra share 2 images (first: train00.png)",
        "train and holdout share 1 image (first: train01.png)",
    ]
    labels = [check.found for check in checks if check.name == "labels of val"]
    assert labels == [
        "split 'val' has no known negatives for 1 of 3 labels, so the AP of these labels is undefined: blue; "
        "positive in every sample: blue"
    ]


def test_a_disk_that_cannot_be_written_and_little_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow.os, "access", lambda *_: False)
    monkeypatch.setattr(workflow, "SMALL_SHARED", 1e18)
    found = {check.name: check for check in workflow._machine(tmp_path / "runs", 4)}
    assert found["disk"].verdict == "error"
    assert "--shm-size" in found["shared memory"].advice


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are simulated."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (79e9, 80e9))
    check = next(workflow._device("cuda:3"))
    assert check.found.startswith("cuda:3: 8 GPUs, using NVIDIA H100, 79 of 80 GB free")


@pytest.mark.parametrize(("free", "verdict"), [(1e5, "error"), (1e9, "warning"), (1e12, "ok")])
def test_the_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, verdict: str) -> None:
    monkeypatch.setattr(workflow.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert {check.name: check for check in workflow._machine(tmp_path, 0)}["disk"].verdict == verdict


def test_the_exit_code_says_whether_something_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    for verdict, code in (("ok", 0), ("warning", 0), ("error", 1)):
        diagnosis = Diagnosis([Check("disk", verdict, "full", "make room")])  # type: ignore[arg-type]
        monkeypatch.setattr(workflow, "doctor", lambda *_, found=diagnosis, **__: found)
        result = CliRunner().invoke(app, ["doctor", "--json"])
        assert (result.exit_code, json.loads(result.stdout)["verdict"]) == (code, verdict)
        assert "disk: make room" in CliRunner().invoke(app, ["doctor"]).stdout


def test_a_signal_ends_the_checks_and_is_not_a_finding(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted("stopped at step 1", signal.SIGTERM)

    monkeypatch.setattr("mlrec.workflows.doctor.train", stopped)
    with pytest.raises(Interrupted, match="stopped before all checks were done") as caught:
        doctor(data, workers=0, out=tmp_path)
    assert caught.value.exit_code == 143
