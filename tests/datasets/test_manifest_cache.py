"""The binary copy of a large manifest: the same content, never older than the JSONL file, never needed."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlrec.datasets import manifest_storage
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.manifest_storage import cache_path
from mlrec.utils.errors import DataError


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_storage, "CACHED_FROM", 0)


def manifest(seed: int = 0, samples: int = 5, *, boxes: bool = True, ids: bool = True) -> Manifest:
    rng = np.random.default_rng(seed)
    images = tuple(f"é{k // 2 if ids else k}.jpg" for k in range(samples))
    return Manifest(
        "people", "all", Path("/data"), ("hat", "ü", "c"), images,
        targets=rng.integers(-1, 2, (samples, 3)).astype(np.int8),
        boxes=rng.integers(0, 9, (samples, 4)) / 2 if boxes else None,
        sample_ids=tuple(f"{image}#{k}" for k, image in enumerate(images)) if ids else (),
    )  # fmt: skip


def equal(one: Manifest, other: Manifest) -> bool:
    boxes = one.boxes is other.boxes is None or np.array_equal(one.boxes, other.boxes)
    return boxes and np.array_equal(one.targets, other.targets) and all(
        getattr(one, name) == getattr(other, name)
        for name in ("name", "split", "root", "labels", "images", "sample_ids", "digest")
    )  # fmt: skip


def loads_the_copy(path: Path, patch: pytest.MonkeyPatch) -> bool:
    """Whether the manifest is read without its lines."""
    read = []
    with patch.context() as inside:
        inside.setattr(
            "mlrec.datasets.manifest.read_lines", lambda *given: read.append(1) or manifest_storage.read_lines(*given)
        )
        Manifest.load(path)
    return not read


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), samples=st.integers(0, 6), boxes=st.booleans(), ids=st.booleans())
def test_the_copy_has_the_content_of_the_file(tmp_path: Path, seed: int, samples: int, boxes: bool, ids: bool) -> None:
    saved, path = manifest(seed, samples, boxes=boxes, ids=ids), tmp_path / "all.jsonl"
    saved.save(path)
    copied = Manifest.load(path)
    cache_path(path).unlink()
    read, again = Manifest.load(path), Manifest.load(path)
    if not samples:  # no box tells that there would be some
        saved = replace(saved, boxes=None)
        copied = replace(copied, boxes=None)
    assert equal(saved, copied)
    assert equal(saved, read)
    assert equal(saved, again)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text(path.read_text().replace('"hat"', '"cap"')),
        lambda path: path.write_text(path.read_text().replace("\n", " \n")),
        lambda path: manifest(1).save(path),
        lambda path: cache_path(path).unlink(),
        lambda path: cache_path(path).write_bytes(b""),
        lambda path: cache_path(path).write_bytes(cache_path(path).read_bytes()[:-9]),
        lambda path: cache_path(path).write_bytes(cache_path(path).read_bytes()[:-9] + b"\xff" * 9),
        lambda path: cache_path(path).write_bytes(b"{}\n"),
        lambda path: cache_path(path).write_bytes(cache_path(path).read_bytes().replace(b"cache/1", b"cache/0")),
    ],
)
def test_the_copy_is_made_again_after_each_kind_of_change(
    tmp_path: Path, change: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "all.jsonl"
    manifest().save(path)
    assert loads_the_copy(path, monkeypatch)
    stamp = path.stat().st_mtime_ns
    change(path)
    os.utime(path, ns=(stamp, stamp))  # the time of a file says nothing about its content
    loaded = Manifest.load(path)
    assert loads_the_copy(path, monkeypatch)
    assert equal(loaded, Manifest.load(path))
    cache_path(path).unlink()
    assert equal(loaded, Manifest.load(path))


def test_a_change_that_breaks_the_file_is_an_error_in_spite_of_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    manifest().save(path)
    path.write_text(path.read_text().replace('"positive"', '"positives"', 1))
    with pytest.raises(DataError, match="line 2"):
        Manifest.load(path)


def test_without_a_place_for_the_copy_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "all.jsonl"
    manifest().save(path)
    cache_path(path).unlink()
    cache_path(path).mkdir()  # a folder cannot be replaced by a file
    assert equal(Manifest.load(path), manifest())


def test_small_manifests_have_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "all.jsonl"
    manifest().save(path)
    monkeypatch.setattr(manifest_storage, "CACHED_FROM", 2**20)
    manifest().save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_another_process_gets_the_path_only(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    manifest(samples=500).save(path)
    loaded = Manifest.load(path)
    assert loaded.targets.any()  # dense targets of this process are not sent
    sent = pickle.dumps(loaded)
    assert len(sent) < 500
    assert equal(pickle.loads(sent), loaded)
    cache_path(path).unlink()
    assert equal(pickle.loads(sent), loaded)
    manifest(1).save(path)
    with pytest.raises(DataError, match="changed while"):
        pickle.loads(sent)
    part = Manifest.load(path).subset([0])
    assert equal(pickle.loads(pickle.dumps(part)), part)


def test_what_a_program_writes_to_the_arrays_does_not_reach_the_file(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    manifest().save(path)
    loaded = Manifest.load(path)
    assert loaded.boxes is not None
    loaded.boxes[:] = 7
    assert equal(Manifest.load(path), manifest())
