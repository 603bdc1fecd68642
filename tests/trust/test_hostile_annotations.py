"""One thing wrong with a right dataset: refused in one line that names it, or prepared with a word about it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mlrec.utils.errors import MlrecError
from mlrec.workflows.data.prepare import prepare
from tests.trust import trees

OK, WARNED, REFUSED = "ok", "warned", "refused"
Spoil = Callable[[Path], None]
TRAIN = "annotations/instances_train2017.json"
XML = "VOC2007/Annotations/000001.xml"
JPEG = "VOC2007/JPEGImages/000001.jpg"
WIDER = "wider_attribute_annotation/wider_attribute_test.json"
DEEP = 100_000


def replaced(file: str, old: str, new: str) -> Spoil:
    def spoil(root: Path) -> None:
        text = (root / file).read_text("utf-8")
        assert old in text
        trees.write(root / file, text.replace(old, new, 1))

    return spoil


def written(file: str, content: str | bytes) -> Spoil:
    return lambda root: trees.write(root / file, content)


def gone(file: str) -> Spoil:
    return lambda root: (root / file).unlink()


def edited(file: str, edit: Callable[[Any], Any]) -> Spoil:
    """JSON with something changed in place."""

    def spoil(root: Path) -> None:
        content = json.loads((root / file).read_text("utf-8"))
        edit(content)
        trees.write(root / file, json.dumps(content))

    return spoil


def first(key: str, **values: Any) -> Spoil:
    return edited(TRAIN, lambda content: content[key][0].update(values))


def renamed(name: str) -> Spoil:
    """A category of another name in both splits."""

    def spoil(root: Path) -> None:
        for file in (TRAIN, TRAIN.replace("train", "val")):
            edited(file, lambda content: content["categories"][0].update(name=name))(root)

    return spoil


def added(key: str, *records: Any) -> Spoil:
    return edited(TRAIN, lambda content: content[key].extend(records))


def linked(file: str, target: str) -> Spoil:
    def spoil(root: Path) -> None:
        (root / file).unlink()
        (root / file).symlink_to(target)

    return spoil


def fifo(file: str) -> Spoil:
    def spoil(root: Path) -> None:
        (root / file).unlink()
        os.mkfifo(root / file)

    return spoil


def saved(file: str, mode: str, format_: str, **options: Any) -> Spoil:
    def spoil(root: Path) -> None:
        Image.new(mode, (16, 12)).save(root / file, format_, **options)

    return spoil


def bytes_of(file: str, edit: Callable[[bytes], bytes]) -> Spoil:
    return lambda root: trees.write(root / file, edit((root / file).read_bytes()))


def recoded(file: str, old: str, new: str) -> Spoil:
    return bytes_of(file, lambda data: data.decode(old).replace(old, new).encode(new))


def before_root(markup: str) -> Spoil:
    return replaced(XML, "<annotation>", f"{markup}<annotation>")


def copied(source: str, target: str) -> Spoil:
    return lambda root: trees.write(root / target, (root / source).read_bytes())


def folder(file: str) -> Spoil:
    def spoil(root: Path) -> None:
        (root / file).unlink()
        (root / file).mkdir()

    return spoil


def listed(image: str) -> Spoil:
    """A YOLO split given as a list of images."""

    def spoil(root: Path) -> None:
        trees.write(root / YAML, "path: .\ntrain: list.txt\nnames: [dog, cat]\n")
        trees.write(root / "list.txt", f"{image}\n")

    return spoil


def person(**values: Any) -> Spoil:
    return edited(WIDER, lambda content: content["images"][0]["targets"][0].update(values))


IMAGE = {"id": 1, "file_name": "000001.jpg", "width": 16, "height": 12}
COCO: list[tuple[str, Spoil, str, str]] = [
    ("image twice, identical", added("images", IMAGE), WARNED, "1"),
    ("image id twice, other file", added("images", IMAGE | {"file_name": "000002.jpg"}), REFUSED, "1"),
    ("category id twice", added("categories", {"id": 3, "name": "cat"}), REFUSED, "cat"),
    ("category twice, identical", added("categories", {"id": 3, "name": "person"}), WARNED, "person"),
    ("empty category name", first("categories", name=""), REFUSED, "name"),
    ("category name is a number", first("categories", name=7), REFUSED, "categories[0].name"),
    ("category name with ESC", first("categories", name="\x1b[31mred"), REFUSED, "control character"),
    ("category name with markup", renamed("[red]x[/red]"), OK, ""),
    ("category name of HTML", renamed("<script>alert(1)</script>"), OK, ""),
    ("category name with a new line", first("categories", name="a\nb"), REFUSED, "control character"),
    ("category name with NUL at the end", first("categories", name="a\0"), REFUSED, "control character"),
    ("category name that is half a pair", first("categories", name="\ud800"), REFUSED, "surrogate"),
    ("id is a float", first("images", id=1.5), REFUSED, "images[0].id"),
    ("id is null", first("annotations", category_id=None), REFUSED, "annotations[0].category_id"),
    ("id is -0", first("images", id=-5), REFUSED, "1"),
    ("category_id is true", first("annotations", category_id=True), REFUSED, "category_id"),
    ("annotations is null", edited(TRAIN, lambda c: c.update(annotations=None)), REFUSED, "annotations"),
    ("no annotations key", edited(TRAIN, lambda c: c.pop("annotations")), REFUSED, "annotations"),
    ("no images key", edited(TRAIN, lambda c: c.pop("images")), REFUSED, "images"),
    ("annotation is a list", added("annotations", [1]), REFUSED, "annotations[2]"),
    ("the root is a list", written(TRAIN, "[]"), REFUSED, TRAIN),
    ("the root is a number", written(TRAIN, "7"), REFUSED, TRAIN),
    ("only blanks", written(TRAIN, "  \n "), REFUSED, "empty"),
    ("UTF-16", written(TRAIN, json.dumps({"images": []}).encode("utf-16")), REFUSED, "UTF-8"),
    ("deep lists", written(TRAIN, '{"images": ' + "[" * DEEP + "]" * DEEP + "}"), REFUSED, "deep"),
    ("deep objects elsewhere", written(TRAIN, '{"info": ' + '{"a":' * DEEP + "1" + "}" * DEEP + "}"), REFUSED, TRAIN),
    ("a number of 10,000 digits", replaced(TRAIN, '"id": 1,', f'"id": {"9" * 10_000},'), REFUSED, TRAIN),
    ("1e400", replaced(TRAIN, '"width": 16', '"width": 1e400'), REFUSED, "width"),
    ("-Infinity", replaced(TRAIN, '"image_id": 1', '"image_id": -Infinity'), REFUSED, "image_id"),
    ("infinite bbox", replaced(TRAIN, "[1, 1, 5, 5]", "[1, 1, Infinity, 5]"), WARNED, "bbox"),
    ("bbox of text", replaced(TRAIN, "[1, 1, 5, 5]", '["1", 1, 5, 5]'), OK, ""),
    ("duplicate key in a record", replaced(TRAIN, '"id": 1,', '"id": 1, "id": 1,'), REFUSED, "key 'id'"),
    ("gzip", written(TRAIN, b"\x1f\x8b\x08\0"), REFUSED, "compressed"),
    ("duplicate categories", replaced(TRAIN, '"categories"', '"categories": [], "categories"'), REFUSED, "categories"),
    ("LFS pointer", written(TRAIN, "version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), REFUSED, "LFS"),
    ("a trailing comma", replaced(TRAIN, '"categories"', ', "categories"'), REFUSED, "line 1"),
    ("single quotes", written(TRAIN, "{'images': []}"), REFUSED, "line 1"),
    ("NUL in a name", first("images", file_name="a\0b.jpg"), REFUSED, "control"),
    ("a drive", first("images", file_name="C:\\a.jpg"), REFUSED, "file_name"),
    ("a URL", first("images", file_name="http://a/b.jpg"), REFUSED, "file_name"),
    ("file://", first("images", file_name="file:///etc/passwd"), REFUSED, "file_name"),
    ("backslashes", first("images", file_name="..\\..\\etc\\passwd"), REFUSED, "passwd"),
    ("inner ..", first("images", file_name="a/../../../etc/passwd"), REFUSED, "file_name"),
    ("an empty name", first("images", file_name=""), REFUSED, "file_name"),
    ("a dot", first("images", file_name="."), REFUSED, "file_name"),
    ("~", first("images", file_name="~/a.jpg"), REFUSED, "~/a.jpg"),
    ("a line separator", first("images", file_name="a\u2028b.jpg"), REFUSED, "file_name"),
    ("right-to-left", first("images", file_name="a\u202egpj.exe"), REFUSED, "u202e"),
    ("Rich markup", first("images", file_name="[bold]a[/].jpg"), REFUSED, "[bold]a[/].jpg"),
    ("a missing image", gone("train2017/000001.jpg"), REFUSED, "000001.jpg"),
    ("a link out", linked("train2017/000001.jpg", "/etc/hostname"), REFUSED, "000001.jpg"),
    ("a link to nothing", linked("train2017/000001.jpg", "nothing"), REFUSED, "000001.jpg"),
    ("a link to itself", linked("train2017/000001.jpg", "000001.jpg"), REFUSED, "000001.jpg"),
    ("a link within", linked("train2017/000001.jpg", "../val2017/000003.jpg"), REFUSED, "000003"),
    ("no category used", edited(TRAIN, lambda c: c.update(annotations=[])), REFUSED, "train"),
    ("a negative size", first("images", width=-16), WARNED, "000001"),
]
VOC: list[tuple[str, Spoil, str, str]] = [
    ("an unknown class", replaced(XML, "dog", "dgo"), REFUSED, "did you mean 'dog'"),
    ("no name", replaced(XML, "<name>dog</name>", ""), REFUSED, "object 1"),
    ("an empty name", replaced(XML, "<name>dog</name>", "<name/>"), REFUSED, "object 1"),
    ("cut", bytes_of(XML, lambda data: data[:150]), REFUSED, "line"),
    ("Latin-1 without saying so", replaced(XML, "dog", "dög"), REFUSED, "object 1"),
    ("not its own encoding", written(XML, b'<?xml version="1.0"?><annotation>\xe8</annotation>'), REFUSED, "000001"),
    ("UTF-16", recoded(XML, "utf-8", "utf-16"), OK, ""),
    ("a billion laughs", before_root('<!DOCTYPE a [<!ENTITY b "c">]>'), REFUSED, "DOCTYPE"),
    ("a DTD elsewhere", before_root('<!DOCTYPE a SYSTEM "http://a/b">'), REFUSED, "DOCTYPE"),
    ("a stylesheet", before_root('<?xml-stylesheet href="a"?>'), OK, ""),
    ("an unknown entity", replaced(XML, "dog", "&dog;"), REFUSED, "000001"),
    ("XInclude", replaced(XML, "dog", '<include href="/etc/passwd"/>dog'), REFUSED, "object 1"),
    ("over 10 MB", replaced(XML, "dog", "dog" + " " * 10_000_001), REFUSED, "larger"),
    ("difficult is yes", replaced(XML, "<difficult>0", "<difficult>yes"), REFUSED, "difficult"),
    ("difficult twice", replaced(XML, "<difficult>0", "<difficult>0</difficult><difficult>1"), OK, ""),
    ("corners of text", replaced(XML, "<xmin>1", "<xmin>a"), WARNED, "000001"),
    ("an infinite corner", replaced(XML, "<xmin>1", "<xmin>inf"), WARNED, "000001"),
    ("a box the wrong way", replaced(XML, "<xmin>1<", "<xmin>99<"), WARNED, "000001"),
    ("an absurd size", replaced(XML, "<width>16", "<width>1e308"), WARNED, "000001"),
    ("a size of nothing", replaced(XML, "<width>16", "<width>0"), OK, ""),
    ("another name", replaced(XML, "000001.jpg", "../../etc/passwd"), REFUSED, "passwd"),
    ("a list that leaves", written("VOC2007/ImageSets/Main/val.txt", "../../../etc/passwd\n"), REFUSED, "passwd"),
    ("a list with absolute names", written("VOC2007/ImageSets/Main/val.txt", "/etc/passwd\n"), REFUSED, "passwd"),
    ("a list of a class", written("VOC2007/ImageSets/Main/val.txt", "000003 -1\n000004  1\n"), WARNED, "absent"),
    ("a list in Latin-1", written("VOC2007/ImageSets/Main/val.txt", b"00000\xe8\n"), REFUSED, "UTF-8"),
    ("a list with NUL", written("VOC2007/ImageSets/Main/val.txt", "00\0003\n"), REFUSED, "control"),
    ("a list that is a FIFO", fifo("VOC2007/ImageSets/Main/val.txt"), REFUSED, "regular"),
    ("an annotation that is a FIFO", fifo(XML), REFUSED, "regular"),
    ("an annotation that is a device", linked(XML, "/dev/zero"), REFUSED, "regular"),
    ("an annotation from elsewhere", linked(XML, "/etc/hostname"), REFUSED, "000001"),
    ("old line ends", written("VOC2007/ImageSets/Main/val.txt", "000003\r000004\r"), OK, ""),
    ("no list of val", gone("VOC2007/ImageSets/Main/val.txt"), WARNED, "val"),
    ("the same content in both splits", copied(JPEG, JPEG.replace("1.jpg", "3.jpg")), REFUSED, "000003"),
]  # fmt: skip
WIDER_: list[tuple[str, Spoil, str, str]] = [
    ("attribute of 2", person(attribute=[2] + 13 * [0]), REFUSED, "male"),
    ("attribute of true", person(attribute=[True] + 13 * [0]), REFUSED, "attribute"),
    ("attribute of text", person(attribute=["1"] + 13 * [0]), REFUSED, "attribute"),
    ("attribute 1.0", person(attribute=[1.0] + 13 * [0]), REFUSED, "attribute"),
    ("15 attributes", person(attribute=15 * [0]), REFUSED, "15"),
    ("a negative box", person(bbox=[1, 1, -4, 5]), WARNED, "0_Parade_0"),
    ("a box outside", person(bbox=[100, 100, 4, 5]), WARNED, "0_Parade_0"),
    ("a box of null", person(bbox=None), REFUSED, "bbox"),
    ("a box of less than a pixel", person(bbox=[2.1, 2.1, 0.2, 9]), WARNED, "without area"),
    ("a box beyond all numbers", person(bbox=[1e308, 1e308, 1e308, 1e308]), WARNED, "without area"),
    ("a huge box", person(bbox=[1, 1, 1e300, 1e300]), OK, ""),
    ("an infinite box", replaced(WIDER, "[1, 1, 8, 9.5]", "[1, 1, 8, Infinity]"), REFUSED, "bbox"),
    ("no persons", edited(WIDER, lambda c: c["images"][0].update(targets=[])), OK, ""),
    ("no person at all", edited(WIDER, lambda c: c.update(images=[])), REFUSED, "test"),
    ("15 names", edited(WIDER, lambda c: c["attribute_id_map"].update({"14": "wings"})), REFUSED, "wings"),
    ("names as a list", edited(WIDER, lambda c: c.update(attribute_id_map=["Male"])), REFUSED, "attribute_id_map"),
    ("a name that leaves", edited(WIDER, lambda c: c["images"][0].update(file_name="../../a.jpg")), REFUSED, "a.jpg"),
    ("an image twice", edited(WIDER, lambda c: c["images"].append(c["images"][0])), WARNED, "0_Parade_0"),
]
CSV: list[tuple[str, Spoil, str, str]] = [
    ("Latin-1", written("labels.csv", "filename,caf\xe8\nimg0.jpg,1\n".encode("latin-1")), REFUSED, "0xE8"),
    ("UTF-16", written("labels.csv", "filename,cat\nimg0.jpg,1\nimg1.jpg,0\n".encode("utf-16")), OK, ""),
    ("half a character of UTF-16", written("labels.csv", "filename,cat\n".encode("utf-16")[:-1]), REFUSED, "UTF-16"),
    ("only a header", written("labels.csv", "filename,cat,dog\n"), REFUSED, "no records"),
    ("an identical row", written("labels.csv", "filename,cat\nimg0.jpg,1\nimg0.jpg,1\n"), WARNED, "img0.jpg"),
    ("an open quote", written("labels.csv", 'filename,cat\n"img0.jpg,1\n'), REFUSED, "quot"),
    ("a label twice", written("labels.csv", "filename,cat,cat\nimg0.jpg,1,0\n"), REFUSED, "cat"),
    ("a label without name", written("labels.csv", "filename,cat,\nimg0.jpg,1,7\n"), REFUSED, "has no name"),
    ("no labels", written("labels.csv", "filename\nimg0.jpg\n"), REFUSED, "labels.csv"),
    ("an empty cell", written("labels.csv", "filename,cat\nimg0.jpg,\n"), REFUSED, "line 2"),
    ("a cell of 2", written("labels.csv", "filename,cat\nimg0.jpg,2\n"), REFUSED, "'2'"),
    ("a cell of true", written("labels.csv", "filename,cat\nimg0.jpg,True\n"), WARNED, "positive in every sample"),
    ("a cell of inf", written("labels.csv", "filename,cat\nimg0.jpg,inf\n"), REFUSED, "inf"),
    ("a long row", written("labels.csv", "filename,cat\nimg0.jpg,1,1\n"), REFUSED, "line 2"),
    ("tabs", written("labels.csv", "filename\tcat\nimg0.jpg\t1\n"), WARNED, "positive in every sample"),
    ("old line ends", written("labels.csv", "filename,cat\rimg0.jpg,1\rimg1.jpg,0\r"), OK, ""),
    ("a missing image", written("labels.csv", "filename,cat\nnone.jpg,1\n"), REFUSED, "none.jpg"),
    ("a name that leaves", written("labels.csv", "filename,cat\n../a.jpg,1\n"), REFUSED, "../a.jpg"),
    ("a name with ESC", written("labels.csv", "filename,cat\n\x1b[31ma.jpg,1\n"), REFUSED, "\\x1b"),
    ("one label for all", written("labels.csv", "filename,cat\nimg0.jpg,0\nimg1.jpg,0\n"), WARNED, "cat"),
    ("a formula", written("labels.csv", "filename,=1+1\nimg0.jpg,1\n"), OK, ""),
    ("a digit of another script", written("labels.csv", "filename,cat\nimg0.jpg,\u0661\n"), OK, ""),
    ("a folder", folder("labels.csv"), REFUSED, "labels.csv"),
    ("a FIFO", fifo("labels.csv"), REFUSED, "regular"),
    ("a device", linked("labels.csv", "/dev/zero"), REFUSED, "regular"),
]  # fmt: skip
FRAMES: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (16, 12), "red")]}
IMAGES: list[tuple[str, Spoil, str, str]] = [
    ("empty", written("img2.jpg", b""), REFUSED, "img2.jpg"),
    ("a FIFO", fifo("img2.jpg"), REFUSED, "regular"),
    ("a device", linked("img2.jpg", "/dev/zero"), REFUSED, "img2.jpg"),
    ("SVG", written("img2.jpg", "<svg xmlns='http://www.w3.org/2000/svg'/>"), REFUSED, "img2.jpg"),
    ("PDF", written("img2.jpg", "%PDF-1.4\n"), REFUSED, "img2.jpg"),
    ("PPM", saved("img2.jpg", "RGB", "PPM"), REFUSED, "img2.jpg"),
    ("ICO", saved("img2.jpg", "RGB", "ICO"), REFUSED, "img2.jpg"),
    ("BMP", saved("img2.jpg", "RGB", "BMP"), OK, ""),
    ("TIFF in LAB", saved("img2.jpg", "LAB", "TIFF"), OK, ""),
    ("TIFF in YCbCr", saved("img2.jpg", "YCbCr", "TIFF"), OK, ""),
    ("32-bit integers", saved("img2.jpg", "I", "TIFF"), REFUSED, "32-bit"),
    ("progressive", saved("img2.jpg", "RGB", "JPEG", progressive=True), OK, ""),
    ("animated PNG", saved("img2.jpg", "RGB", "PNG", **FRAMES), WARNED, "img2.jpg"),
    ("animated WebP", saved("img2.jpg", "RGB", "WEBP", **FRAMES), WARNED, "img2.jpg"),
    ("zeros after a header", bytes_of("img2.jpg", lambda data: data[:200] + bytes(500)), REFUSED, "img2.jpg"),
    ("bytes after the end", bytes_of("img2.jpg", lambda data: data + b"tail"), OK, ""),
]  # fmt: skip
YAML, BOXES = "data.yaml", "labels/train/000001.txt"
YOLO: list[tuple[str, Spoil, str, str]] = [
    ("a class beyond the names", written(BOXES, "2 .5 .5 .1 .1\n"), REFUSED, "000001.txt"),
    ("a class of -1", written(BOXES, "-1 .5 .5 .1 .1\n"), REFUSED, "000001.txt"),
    ("a class of 0.5", written(BOXES, "0.5 .5 .5 .1 .1\n"), REFUSED, "000001.txt"),
    ("a class of nan", written(BOXES, "nan .5 .5 .1 .1\n"), REFUSED, "000001.txt"),
    ("four fields", written(BOXES, "0 .5 .5 .1\n"), REFUSED, "000001.txt"),
    ("text", written(BOXES, "dog .5 .5 .1 .1\n"), REFUSED, "000001.txt"),
    ("NUL", written(BOXES, "0 .5 \0 .1 .1\n"), REFUSED, "000001.txt"),
    ("Latin-1", written(BOXES, b"0 .5 .5 .1 \xe8\n"), REFUSED, "000001.txt"),
    ("empty", written(BOXES, ""), OK, ""),
    ("a Python object", written(YAML, "!!python/object/apply:os.system ['touch owned']\n"), REFUSED, YAML),
    ("an alias bomb", written(YAML, "a: &a [1,1]\nb: &b [*a,*a]\ntrain: images/train\nnames: *b\n"), REFUSED, YAML),
    ("a list", written(YAML, "[1, 2]\n"), REFUSED, YAML),
    ("empty yaml", written(YAML, ""), REFUSED, YAML),
    ("deep", written(YAML, "a: " + "[" * DEEP + "]" * DEEP), REFUSED, "deeper"),
    ("a key twice", written(YAML, "train: images/train\nnames: [dog, cat]\nnames: [cat, dog]\n"), REFUSED, "names"),
    ("no names", written(YAML, "path: .\ntrain: images/train\n"), REFUSED, "names"),
    ("names twice", written(YAML, "path: .\ntrain: images/train\nnames: [dog, dog]\n"), REFUSED, "dog"),
    ("names of gaps", written(YAML, "path: .\ntrain: images/train\nnames: {0: dog, 5: cat}\n"), REFUSED, "names"),
    ("a path that leaves", written(YAML, "path: .\ntrain: ../../etc\nnames: [dog, cat]\n"), REFUSED, YAML),
    ("a path that is a number", written(YAML, "path: .\ntrain: 7\nnames: [dog, cat]\n"), REFUSED, YAML),
    ("a URL", written(YAML, "path: .\ntrain: https://a/b\nnames: [dog, cat]\n"), REFUSED, YAML),
    ("a list of images that leaves", listed("../../etc/passwd.jpg"), REFUSED, "passwd"),
]  # fmt: skip
KINDS = {"coco": (trees.coco, COCO), "voc2007": (trees.voc, VOC), "wider": (trees.wider, WIDER_),
         "csv": (trees.csv, CSV), "images": (trees.csv, IMAGES), "yolo": (trees.yolo, YOLO)}  # fmt: skip
CASES = [pytest.param(kind, *case[1:], id=f"{kind}: {case[0]}") for kind, (_, cases) in KINDS.items() for case in cases]
SOURCE = {"csv": ("csv", "labels.csv"), "images": ("csv", "labels.csv"), "yolo": ("yolo", "data.yaml")}


@pytest.mark.parametrize("kind", KINDS)
def test_before_it_is_spoilt_it_is_right(kind: str, tmp_path: Path) -> None:
    assert outcome(kind, tmp_path, lambda root: None)[0] != REFUSED


@pytest.mark.parametrize(("kind", "spoil", "expected", "named"), CASES)
def test_one_thing_wrong(kind: str, spoil: Spoil, expected: str, named: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    result, told = outcome(kind, tmp_path, spoil)
    assert result in (expected, WARNED if expected == OK else expected), told
    assert named in told
    assert time.monotonic() - begun < 30
    assert len(told.splitlines()) <= 12
    assert all(line.isprintable() for line in told.splitlines())
    assert not Path("owned").exists()
    left = {path.name for path in (tmp_path / "out").glob("**/*") if path.is_file() and path.suffix != ".log"}
    assert not left if expected == REFUSED else "dataset.json" in left


def outcome(kind: str, folder: Path, spoil: Spoil) -> tuple[str, str]:
    """What `prepare` does with a dataset that was spoilt, and what it says."""
    root = KINDS[kind][0](folder / "in")
    spoil(root)
    source, file = SOURCE.get(kind, (kind, "."))
    try:
        dataset = prepare(source, root / file, out=folder / "out", name="x")
    except MlrecError as error:
        return REFUSED, str(error)
    return (WARNED if dataset.info.warnings else OK), "\n".join(dataset.info.warnings)
