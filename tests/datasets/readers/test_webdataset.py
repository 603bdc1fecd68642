"""WebDataset shards, written here with tarfile."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.webdataset import read_webdataset, recognizes
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.workflows.data.prepare import prepare


def jpeg(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (value, 9, 99)).save(stream, "JPEG")
    return stream.getvalue()


def shard(path: Path, **members: bytes | str) -> Path:
    """A tar file; `__` in a name stands for a dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name.replace("__", "."))
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def read(path: Path, **options: Any) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_webdataset(path, ReadOptions(**options), findings), findings


def test_shards_are_splits_and_their_images_become_files(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shard(shards / "pets-train-000000.tar", a__jpg=jpeg(1), a__json=json.dumps({"labels": ["dog", "cat"]}))
    shard(
        shards / "pets-train-000001.tar", a__json='["cat"]', a__jpg=jpeg(2), b__jpg=jpeg(3), b__json='{"label": "dog"}'
    )
    shard(shards / "val/0.tgz", c__jpg=jpeg(4), c__txt="dog\ncat\n", d__PNG=jpeg(5), d__txt="")
    assert "pets-train-000000.tar is a tar file of images" in str(recognizes(shards))
    data = prepare("webdataset", shards, out=tmp_path / "data")
    train, val = data.manifest("train"), data.manifest("val")
    assert train.labels == ("cat", "dog")
    assert dict(zip(train.images, train.targets.tolist(), strict=True)) == {
        "pets-train-000000/a.jpg": [1, 1],
        "pets-train-000001/a.jpg": [1, 0],
        "pets-train-000001/b.jpg": [0, 1],
    }
    assert dict(zip(val.images, val.targets.tolist(), strict=True)) == {"val/0/c.jpg": [1, 1], "val/0/d.PNG": [0, 0]}
    assert train.root == tmp_path / "data/shards/images"
    assert (train.root / "pets-train-000001/a.jpg").read_bytes() == jpeg(2)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["shards"]
    again = prepare("webdataset", shards, out=tmp_path / "data")  # replaces the images too
    assert again.manifest("train").digest == train.digest
    assert Dataset.load(tmp_path / "data/shards").manifest("val").digest == val.digest


def test_a_folder_of_the_user_is_not_replaced(tmp_path: Path) -> None:
    shard(tmp_path / "all.tar", a__jpg=jpeg(1), a__cls="cat")
    data = prepare("webdataset", tmp_path / "all.tar", out=tmp_path / "data")
    (data.path / "mine").mkdir()
    with pytest.raises(DataError, match="mine: this path was not written by mlrec"):
        prepare("webdataset", tmp_path / "all.tar", out=tmp_path / "data")
    assert (data.path / "images/all/a.jpg").exists()


def test_numbers_are_named_by_the_labels_option(tmp_path: Path) -> None:
    path = shard(tmp_path / "all.tar", a__jpg=b"", a__cls="1\n", b__jpg=b"", b__json='{"labels": [0, 2]}')
    reading, findings = read(path, labels=("cat", "dog", "bird"))
    assert (reading.manifests[0].targets.tolist(), findings.errors) == ([[0, 1, 0], [1, 0, 1]], [])
    reading, findings = read(path)
    assert reading.manifests[0].labels == ("0", "1", "2")
    assert (
        "labels are numbers; set their names with --labels a,b,... (the first name is for label 0)"
        in findings.warnings[0]
    )
    _, findings = read(path, labels=("cat", "dog"))
    assert "index 2 is out of range for the 2 labels" in findings.errors[0]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../../evil__jpg": b"", "../../evil__cls": "cat"}, "is outside the image directory"),
        ({"/etc/evil__jpg": b"", "/etc/evil__cls": "cat"}, "is absolute"),
        ({"a__jpg": b""}, r"all.tar: a: the sample has no labels; expected a .json, .cls or .txt file"),
        ({"a__jpg": b"", "a__png": b"", "a__cls": "cat"}, "the sample already contains the image"),
        ({"a__jpg": b"", "a__json": "{"}, "is not valid JSON"),
        ({"a__jpg": b"", "a__json": '{"caption": "x"}'}, "has none of the keys labels, label"),
        ({"a__jpg": b"", "a__json": '{"labels": [0, 1, 0]}'}, "a number occurs twice"),
        ({"a__jpg": b"", "a__json": '{"labels": [0.5]}'}, "'0.5' is not the name or index of a label"),
        ({"a__jpg": b"", "a__txt": b"\xff\xfe"}, "is not UTF-8"),
        ({"a__jpg": b"", "a__txt": b" " * 1_000_001}, "has 1,000,001 bytes, more than the limit of 1,000,000"),
    ],
)
def test_what_is_unsafe_or_unclear_is_an_error(tmp_path: Path, members: dict[str, Any], message: str) -> None:
    path = shard(tmp_path / "all.tar", z__jpg=b"", z__cls="cat", **members)
    _, findings = read(path)
    with pytest.raises(DataError, match=message):
        findings.raise_errors("", "")


def test_links_are_not_followed(tmp_path: Path) -> None:
    path = shard(tmp_path / "all.tar", z__jpg=jpeg(1), z__cls="cat")
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("b.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    reading, _ = read(path)
    assert reading.manifests[0].images == ("all/z.jpg",)
    assert reading.unpack is not None
    reading.unpack(tmp_path / "images")
    assert [file.name for file in (tmp_path / "images/all").iterdir()] == ["z.jpg"]


def test_a_truncated_shard_and_one_without_a_split_among_others_are_errors(tmp_path: Path) -> None:
    path = shard(tmp_path / "a/train-0.tar", a__jpg=b"x" * 5000, a__cls="cat")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="the tar file is incomplete"):
        read(path)
    shard(tmp_path / "b/train-0.tar", a__jpg=b"", a__cls="cat")
    shard(tmp_path / "b/extra.tar", a__jpg=b"", a__cls="cat")
    with pytest.raises(DataError, match=r"extra.tar: the shard is not named after a split"):
        read(tmp_path / "b")
    reading, _ = read(tmp_path / "b", split_names={"extra": "test"})
    assert [m.split for m in reading.manifests] == ["train", "test"]
