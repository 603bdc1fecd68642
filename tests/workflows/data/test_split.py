"""`mlrec split`: what it adds to a dataset, and what it never touches."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.utils.errors import DataError, UsageError
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.data.split import add_splits, split
from tests.conftest import Notes


def dataset(root: Path, *splits: str, patients: bool = False, samples: int = 80) -> Path:
    """A CSV dataset without image files; 20 samples of every patient."""
    rng = np.random.default_rng(0)
    lines = ["filename,split,patient,cat,dog"]
    for name in splits:
        for k in range(samples):
            cat, dog = (rng.random(2) < [0.5, 0.25]).astype(int)
            lines.append(f"{name}{k}.jpg,{name},P{k % (samples // 20)},{cat},{dog}")
    (root / "pets.csv").write_text("\n".join(lines) + "\n")
    options = ReadOptions(labels=("cat", "dog"))
    return prepare("csv", root / "pets.csv", out=root / "data", options=options, verify=False).path


def ids(path: Path, name: str) -> set[str]:
    return set(Dataset.load(path).manifest(name).sample_ids)


def test_all_becomes_train_and_val(tmp_path: Path) -> None:
    path = dataset(tmp_path, "all")
    made = split(path, val=0.25)
    assert made.pool == "all"
    assert made.sizes == {"train": 60, "val": 20}
    assert ids(path, "train") | ids(path, "val") == ids(path, "all")
    assert not ids(path, "train") & ids(path, "val")
    assert list(Dataset.load(path).info.splits) == ["train", "val", "all"]
    assert made.error < made.random_error


def test_train_is_kept_whole_as_trainval_and_test_is_never_touched(tmp_path: Path) -> None:
    path = dataset(tmp_path, "train", "test")
    before, whole = (path / "test.jsonl").read_bytes(), ids(path, "train")
    split(path, val=0.25)
    assert ids(path, "trainval") == whole == ids(path, "train") | ids(path, "val")
    assert (path / "test.jsonl").read_bytes() == before
    again = split(path, val=0.5, seed=1)  # divides the same pool anew
    assert again.pool == "trainval"
    assert again.sizes == {"train": 40, "val": 40}
    with pytest.raises(UsageError, match="the test split cannot be divided"):
        split(path, pool="test")


def test_splits_that_another_command_has_added_meanwhile_are_kept(tmp_path: Path) -> None:
    loaded = Dataset.load(dataset(tmp_path, "train", "test"))
    split(loaded.path, folds=2)
    pool = loaded.manifest("train")
    added = add_splits(loaded, pool, [pool.subset(np.arange(10), "few")])
    assert set(added.info.splits) >= {"few", "fold0-train", "fold1-val"}
    fewer = add_splits(loaded, pool, [], outdated=["few"])
    assert set(fewer.info.splits) == set(added.info.splits) - {"few"}


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_a_division_that_is_cut_off_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    path = dataset(tmp_path, "train", "test")
    split(path, val=0.25)
    before, left = {file.name: file.read_bytes() for file in path.iterdir()}, [written]
    save = Manifest.save

    def cut_off(manifest: Manifest, file: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        save(manifest, file)

    monkeypatch.setattr(Manifest, "save", cut_off)
    with suppress(KeyboardInterrupt):
        split(path, val=0.5, seed=1)
    after = {file.name: file.read_bytes() for file in path.iterdir()}
    assert (after == before) == (written < 2)
    assert ids(path, "train") ^ ids(path, "val") == ids(path, "trainval")
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["pets"]


def test_a_link_to_a_data_set_stays_one(tmp_path: Path) -> None:
    path = dataset(tmp_path, "all")
    (tmp_path / "link").symlink_to(path)
    split(tmp_path / "link", val=0.25)
    assert (tmp_path / "link").is_symlink()
    assert len(ids(path, "val")) == 20


def test_folds_hold_each_sample_out_once(tmp_path: Path) -> None:
    path = dataset(tmp_path, "trainval")
    made = split(path, folds=4)
    assert list(made.sizes) == [f"fold{k}-{part}" for k in range(4) for part in ("train", "val")]
    held_out = [ids(path, f"fold{k}-val") for k in range(4)]
    assert set.union(*held_out) == ids(path, "trainval")
    assert sum(map(len, held_out)) == 80
    for k, held in enumerate(held_out):
        assert ids(path, f"fold{k}-train") == ids(path, "trainval") - held
    split(path, folds=2)  # in place of the four
    assert list(Dataset.load(path).info.splits) == ["trainval", "fold0-train", "fold0-val", "fold1-train", "fold1-val"]
    assert not (path / "fold3-val.jsonl").exists()


def test_a_group_column_of_the_csv_stays_together(tmp_path: Path) -> None:
    path = dataset(tmp_path, "all")
    made = split(path, val=0.25, group="patient")
    assert made.groups == 4
    assert made.sizes == {"train": 60, "val": 20}
    assert len({int(name[3:-4]) % 4 for name in ids(path, "val")}) == 1


def test_the_source_s_own_splits_stay(tmp_path: Path) -> None:
    path = dataset(tmp_path, "train", "val")
    with pytest.raises(UsageError, match="split 'val' already exists"):
        split(path)
    assert split(path, prefix="mini-").sizes.keys() == {"mini-train", "mini-val"}
    assert split(path, folds=2).pool == "train"


def test_the_same_photograph_stays_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["filename,cat"]
    for k in range(10):
        pixels = np.repeat(np.repeat(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), 12, 0), 12, 1)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        Image.fromarray(pixels).resize((50, 60)).save(tmp_path / f"{k}-small.jpg", quality=60)
        lines += [f"{k}.png,{k % 2}", f"{k}-small.jpg,{k % 2}"]
    (tmp_path / "pets.csv").write_text("\n".join(lines) + "\n")
    path = prepare("csv", tmp_path / "pets.csv", out=tmp_path / "data").path
    assert split(path, val=0.4).groups == 10
    val = ids(path, "val")
    assert {name.partition("-")[0].partition(".")[0] for name in val} == {name[0] for name in val}
    assert all((f"{k}.png" in val) == (f"{k}-small.jpg" in val) for k in range(10))
    assert split(path, val=0.4, near_duplicates=False).groups == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 1.0}, "between 0 and 1"),
        ({"folds": 1}, "at least 2"),
        ({"group": "pateint"}, "did you mean 'patient'"),
        ({"groups_file": Path("x.csv")}, "requires a group column; name the column with --group"),
        ({"pool": "trian"}, "no split 'trian'"),
        ({"prefix": "../"}, "use only letters"),
    ],
)
def test_invalid_options_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    path = dataset(tmp_path, "all")
    before = sorted(file.name for file in path.iterdir())
    with pytest.raises((UsageError, DataError), match=message):
        split(path, **options)  # type: ignore[arg-type]
    assert sorted(file.name for file in path.iterdir()) == before


def test_a_label_that_a_part_lacks_is_named(tmp_path: Path, notes: Notes) -> None:
    rows = [f"{k}.jpg,{int(k < 10)},{int(k == 0)}" for k in range(20)]
    (tmp_path / "pets.csv").write_text("\n".join(["filename,cat,dog", *rows]) + "\n")
    path = prepare("csv", tmp_path / "pets.csv", out=tmp_path / "data", verify=False).path
    split(path, val=0.2)
    lacking = next(
        name for name in ("train", "val") if not (Dataset.load(path).manifest(name).targets[:, 1] == 1).any()
    )
    consequence = {
        "train": "so a model trained on this split cannot learn them",
        "val": "so the AP of these labels is undefined",
    }[lacking]
    assert notes.warnings == [f"split '{lacking}' has no positives for 1 of 2 labels, {consequence}: dog"]
