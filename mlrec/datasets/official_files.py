"""Official files of the datasets used in the paper, with sizes and SHA-256 digests.

Sizes and digests of the VOC and COCO archives are from TensorFlow Datasets (`url_checksums` in tensorflow/datasets).
WIDER Attribute has no published digest, and its files are on Google Drive, which requires a browser.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OfficialFile:
    """Official archive: folder URL, name, size in bytes, and SHA-256 digest."""

    folder: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class OfficialDataset:
    """Web page, license and official files of a dataset.

    Attributes:
        page: Web page of the dataset authors.
        licence: Terms of use in one line.
        files: Archives to download and unpack into one folder. Empty if automatic download is not possible.
        prepare: Arguments for `mlrec prepare`: the kind of the dataset, and its path in the unpacked folder.
        note: Additional information, or instructions for a manual download.
    """

    page: str
    licence: str
    files: tuple[OfficialFile, ...]
    prepare: tuple[str, str]
    note: str = ""


VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"
COCO = "http://images.cocodataset.org"
FLICKR = "images are from Flickr, under Flickr's terms of use"

OFFICIAL = {
    "voc2007": OfficialDataset(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
        FLICKR,
        (
            OfficialFile(
                f"{VOC}/voc2007", "VOCtrainval_06-Nov-2007.tar", 460_032_000,
                "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            ),
            OfficialFile(
                f"{VOC}/voc2007", "VOCtest_06-Nov-2007.tar", 451_020_800,
                "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
            ),
        ),
        ("voc2007", "VOCdevkit"),
    ),
    "voc2012": OfficialDataset(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        FLICKR,
        (
            OfficialFile(
                f"{VOC}/voc2012", "VOCtrainval_11-May-2012.tar", 1_999_639_040,
                "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            ),
        ),
        ("voc2012", "VOCdevkit"),
        "The test images require an account on the evaluation server, http://host.robots.ox.ac.uk:8080/. The test "
        "labels are not public. To predict these labels, unpack the test images into the same VOCdevkit folder.",
    ),
    "coco2014": OfficialDataset(
        "https://cocodataset.org/",
        f"annotations: CC BY 4.0; {FLICKR}",
        (
            OfficialFile(
                f"{COCO}/annotations", "annotations_trainval2014.zip", 252_872_794,
                "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
            ),
            OfficialFile(
                f"{COCO}/zips", "val2014.zip", 6_645_013_297,
                "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
            ),
            OfficialFile(
                f"{COCO}/zips", "train2014.zip", 13_510_573_713,
                "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
            ),
        ),
        ("coco", ""),
    ),
    "wider": OfficialDataset(
        "http://mmlab.ie.cuhk.edu.hk/projects/WIDERAttribute.html",
        "see the dataset page",
        (),
        ("wider", ""),
        "The files are on Google Drive and cannot be downloaded automatically. No SHA-256 is published, so the files "
        "cannot be verified either. Open the page in a browser, download wider_attribute_image.tgz and "
        "wider_attribute_annotation.zip, and unpack both into one folder.",
    ),
}  # fmt: skip
