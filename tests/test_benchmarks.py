"""The benchmarks that compare training and evaluation run, and their two sides compute the same."""

from __future__ import annotations

import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests import processes
from tests.tiny import make_tiny

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = ["--backbone", "test_resnet", "--img-size", "32"]


class Here:
    """A side without a process of its own, which would have to load everything anew."""

    def __init__(self, work: Callable[..., Iterator[object]], *given: object, environment: Mapping[str, str]) -> None:
        self.turns = work(*given)

    def take_turn(self) -> SimpleNamespace:
        return SimpleNamespace(seconds=1.0, found=next(self.turns))

    def end(self) -> None:
        pass


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr("paired.Side", Here)
    monkeypatch.setattr(sys, "argv", [name, *arguments, *TINY])
    runpy.run_path(str(FOLDER / name), run_name="__main__")


def told_environment(name: str) -> Iterator[str | None]:
    while True:
        yield os.environ.get(name)


def test_sides_have_processes_and_environments_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("GOMP_SPINCOUNT", "1")
    from paired import Side

    plain, given = (Side(told_environment, "GOMP_SPINCOUNT", environment=e) for e in ({}, {"GOMP_SPINCOUNT": "2"}))
    assert [side.take_turn().found for side in (plain, given, plain)] == [None, "2", None]
    plain.end()
    given.end()
    assert os.environ["GOMP_SPINCOUNT"] == "1"


def test_a_step_of_csra_stands_beside_one_of_average_pooling(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "step.py", "--batch-size", "2", "--labels", "3", "--alternations", "2")
    told = capsys.readouterr().out
    assert "a training step of CSRA H = 8 over average pooling: " in told
    assert "the same at test time: " in told


def test_training_stands_beside_the_plain_loop_and_data_on_the_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = str(make_tiny(tmp_path))
    size = ("--images", "12", "--batch-size", "4")
    run(monkeypatch, "training.py", data, "--split", "train", "--workers", "0", "--rounds", "1", *size)
    told = capsys.readouterr().out
    for line in ("mlrec over plain: ", "mlrec over on the device: ", "rate of fp32 matrix products: "):
        assert line in told


def test_evaluation_scores_as_the_plain_loop_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    splits = ("--train-split", "train", "--split", "val", "--labels", "blue,red")
    run(monkeypatch, "evaluation.py", str(make_tiny(tmp_path)), *splits, "--workers", "0", "--rounds", "1")
    told = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines() if "mAP" in line}
    assert float(told["plain"]) == pytest.approx(float(told["fp32"]), abs=5)


def test_a_checkout_is_compared_with_another(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "against.py"), str(FOLDER.parent), "--rounds", "2", "--batch-size", "2"]
    done = processes.run([*command, *TINY], timeout=300, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    for line in ("training: seconds of this checkout over those of ", "evaluation: seconds of ", "peak memory: "):
        assert line in done.stdout
    done = processes.run([*command[:2], str(tmp_path)], timeout=300, text=True)
    assert done.returncode == 2
    assert "not a checkout of mlrec" in done.stderr


def test_the_plain_heads_are_those_of_the_stacked_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    from mlrec.models.csra import CSRA

    stacked = CSRA(16, 3, 6, lam=0.5)
    plain = runpy.run_path(str(FOLDER / "plain.py"))["PlainHeads"](stacked)
    features = torch.randn(2, 16, 4, 5)
    torch.testing.assert_close(plain(features), stacked(features))


@pytest.mark.long
def test_every_check_of_the_gpu_runs_small_on_a_cpu(tmp_path: Path) -> None:
    """In a process of its own: several of the checks change settings of the whole process."""
    out = tmp_path / "gpu.md"
    script, paths = FOLDER / "gpu.py", {"PYTHONPATH": str(FOLDER.parent), "OMP_NUM_THREADS": "1"}
    done = processes.run(
        [sys.executable, str(script), "--small", "--seconds", "1500", "--out", str(out)],
        timeout=1800, text=True, env=os.environ | paths,
    )  # fmt: skip
    rows = [line.split("|")[1:-1] for line in out.read_text().splitlines()[4:]]
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row[3].strip() for row in rows} == {"pass", "shown"}
    names = " ".join(row[0] for row in rows)
    for word in ("compared with float32", "waits in a step", "--sync-bn", "over average pooling", "killed and resumed",
                 "predict --precision", "two processes", "out of memory", "SIGTERM", "training, ", "evaluation, ",
                 "over plain", "cudnn.benchmark", "MFU", "peak memory", "kernels of a step", "doctor",
                 "by default", "--grad-checkpointing"):  # fmt: skip
        assert word in names


def test_a_check_that_breaks_or_comes_too_late_is_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    import gpu

    def broken(_: gpu.Bench) -> Iterator[tuple[str, str, str, bool | None]]:
        yield "first", "1", "1", True
        raise ValueError("no such kernel")

    monkeypatch.setattr(gpu, "CHECKS", {"one": broken})
    soon = gpu.Bench(torch.device("cpu"), True, tmp_path, None, time.monotonic() + 60)
    assert [(row.check, row.verdict) for row in gpu.run("one", soon)] == [("first", "pass"), ("one", "FAIL")]
    late = gpu.Bench(torch.device("cpu"), True, tmp_path, None, time.monotonic())
    assert [row.verdict for row in gpu.run("one", late)] == ["not run"]
    assert gpu.table([gpu.Row("a", "1", "2", "pass")]).splitlines()[-1] == "| a | 1 | 2 | pass |"


@pytest.mark.long
def test_the_comparison_for_a_gpu_runs_small_on_a_cpu_and_resumes(tmp_path: Path) -> None:
    data, out = make_tiny(tmp_path), tmp_path / "out"
    script, paths = FOLDER / "gpu_compare.py", {"PYTHONPATH": str(FOLDER.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(data), "--small", "--out", str(out)]
    for seconds in ("20", "1500"):  # the first is stopped by its time limit, the second finishes its runs
        done = processes.run([*command, "--seconds", seconds], timeout=1800, text=True, env=os.environ | paths)
        assert done.returncode == 0, done.stdout + done.stderr
    tables = (out / "tables.md").read_text()
    for study in ("tiny-resnet50-scratch", "tiny-lite0"):
        rows = tables.partition(f"## {study}\n")[2].partition("\n## ")[0]
        assert all(f"| {row} | " in rows for row in ("baseline", "baseline, CSRA's head lr", "CSRA, λ = 0", "CSRA")), (
            rows
        )


def test_heat_maps_are_drawn_by_both_sides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", ["heat_maps.py", str(tmp_path / "pictures"), "--images", "1", "--rounds", "3"])
    runpy.run_path(str(FOLDER / "heat_maps.py"), run_name="__main__")
    assert "ratio" in capsys.readouterr().out
