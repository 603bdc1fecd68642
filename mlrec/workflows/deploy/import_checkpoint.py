"""Somebody else's checkpoint → a folder with `model.safetensors` and `config.toml` that everything here takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from mlrec.datasets.dataset import DATASET_FILE, Dataset
from mlrec.datasets.readers import coco_layout, voc, wider
from mlrec.models.preprocessing import NORMALIZATIONS
from mlrec.utils.errors import ModelError, UsageError, counted, printable
from mlrec.utils.files import MODEL_FILE, replace_folder, sha256, write_text
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.train.lineage import file_lineage

if TYPE_CHECKING:
    from mlrec.models.classifier import Classifier
    from mlrec.models.external_checkpoint import ExternalCheckpoint

KNOWN_LABELS: dict[str, tuple[str, ...]] = {
    "voc2007": voc.LABELS,
    "coco2014": coco_layout.LABELS,
    "wider": wider.LABELS,
}
LICENCES = {
    "the paper's code": "its repository is under AGPL-3.0; the terms of the weights are its authors' to state",
    "mmpretrain": "mmpretrain is under Apache-2.0",
}
TRAINED_AT = 448


@dataclass(frozen=True)
class ImportResult:
    """What became of a checkpoint.

    Attributes:
        path: the folder written.
        naming: whose names its tensors had.
        matched: tensors taken over; none is ever missing.
        unused: names of those left out.
    """

    path: Path
    naming: str
    backbone: str
    head: str
    heads: int
    lam: float
    labels: tuple[str, ...]
    img_size: int
    matched: int
    unused: tuple[str, ...]


def import_checkpoint(
    checkpoint: Path,
    *,
    out: Path | None = None,
    lam: float | None = None,
    dataset: str | None = None,
    backbone: str | None = None,
    img_size: int | None = None,
    normalization: str | None = None,
    progress: Progress = SILENT,
) -> ImportResult:
    """Read `checkpoint`, tell what it is, and write the same model to the folder `out`.

    Args:
        checkpoint: the paper's, mmpretrain's, CutMix's, torchvision's or timm's file.
        out: folder to make; left out, `imported/` and the file's stem.
        lam: λ, which no file holds; left out, the published one for dataset, backbone and heads.
        dataset: voc2007, coco2014, wider or a prepared dataset's folder; left out, by the number of labels.
        backbone: timm name, needed where the tensors' names do not tell.
        img_size: side in pixels; left out, that of the positions, else 448, else the backbone's own.
        normalization: a key of `NORMALIZATIONS` or "weights"; left out, what the makers of the file used.
        progress: told what was filled in.

    Raises:
        ModelError: no plain weights, an unknown naming, λ unknown, or tensors that do not fit.
    """
    from mlrec.models.external_checkpoint import assemble, recognize
    from mlrec.models.safe_loading import read_tensors, unwrapped
    from mlrec.models.weights import check_finite

    if normalization is not None and normalization not in ("weights", *NORMALIZATIONS):
        choices = ", ".join(("weights", *NORMALIZATIONS))
        raise UsageError(f"--normalization {printable(normalization)}: choose one of {choices}")
    out = out or Path("imported") / checkpoint.stem
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{printable(out)}: exists already; choose another --out")
    shown = printable(checkpoint)
    try:
        tensors = unwrapped(read_tensors(checkpoint), str(checkpoint))
        check_finite(tensors, str(checkpoint))
        foreign = recognize(tensors)
        name = _backbone(foreign, backbone)
        labels, known = _labels(foreign, dataset, progress)
        lam = _lam(foreign, known, lam, progress)
    except ModelError as error:
        raise error if str(error).startswith(shown) else ModelError(f"{shown}: {error}") from error
    size = img_size or foreign.img_size or (TRAINED_AT if foreign.heads else None)
    model, unused = assemble(foreign, name, str(checkpoint), lam=lam, img_size=size, labels=labels)
    normalization = normalization or _normalization(foreign, known, progress)
    _preprocess(model, foreign, normalization)
    _write(out, model, checkpoint, foreign.naming, normalization)
    built = model.architecture
    matched = len(foreign.backbone_tensors) - len(unused) + max(foreign.heads, 1 if foreign.bias is None else 2)
    return ImportResult(
        out,
        foreign.naming,
        built.backbone,
        built.head,
        built.heads,
        lam,
        labels,
        built.img_size,
        matched,
        tuple(unused),
    )


def _backbone(foreign: ExternalCheckpoint, asked: str | None) -> str:
    from mlrec.models.weights import BACKBONE_PREFIX

    if any(key.startswith(BACKBONE_PREFIX) for key in foreign.backbone_tensors):
        raise ModelError("is a model of mlrec already; eval, predict, attend and export take it as it is")
    if foreign.weight is None and foreign.family != "other":
        raise ModelError(
            "holds a backbone without a classifier; start training from it with mlrec train --weights FILE"
        )
    if (name := asked or foreign.backbone) is None or foreign.weight is None:
        first = printable(next(iter(foreign.backbone_tensors), ""))
        raise ModelError(
            f"{counted(len(foreign.backbone_tensors), 'tensor')} with names of no known model, first '{first}'; "
            "if it is a timm model, say which with --backbone NAME"
        )
    return name


def _labels(foreign: ExternalCheckpoint, dataset: str | None, progress: Progress) -> tuple[tuple[str, ...], str | None]:
    """Label names, and the dataset that the published λ is looked up by."""
    assert foreign.weight is not None
    count = foreign.weight.shape[-2]
    if not count:
        raise ModelError("its head is for no label at all; fetch it again")
    if dataset is None:
        known = next((name for name, labels in KNOWN_LABELS.items() if len(labels) == count), None)
        labels = KNOWN_LABELS[known] if known else tuple(f"label_{k}" for k in range(count))
        progress.say(
            f"{counted(count, 'label')}: named as those of {known}"
            if known
            else f"{counted(count, 'label')}: named {labels[0]}, ..."
        )
        return labels, known
    if dataset in KNOWN_LABELS:
        labels, known = KNOWN_LABELS[dataset], dataset
    elif (Path(dataset) / DATASET_FILE).is_file():
        labels = tuple(Dataset.load(dataset).info.labels)
        known = next((name for name, names in KNOWN_LABELS.items() if set(names) == set(labels)), None)
        if known and foreign.heads and labels != KNOWN_LABELS[known]:
            labels = KNOWN_LABELS[known]
            progress.say(f"labels in the order of {known}, as its makers have it, not in that of {printable(dataset)}")
    else:
        raise UsageError(
            f"--dataset {printable(dataset)}: give {', '.join(KNOWN_LABELS)} or the folder of a prepared dataset"
        )
    if len(labels) != count:
        raise ModelError(
            f"its head is for {counted(count, 'label')}, but {printable(dataset)} has {len(labels)}; choose "
            f"another --dataset"
        )
    return labels, known


def _lam(foreign: ExternalCheckpoint, known: str | None, asked: float | None, progress: Progress) -> float:
    from mlrec.models.paper_checkpoints import published_lam

    if not foreign.heads:
        if asked:
            raise UsageError(
                "--lam is for CSRA, and this is a plain linear classifier on average pooling; leave it out"
            )
        return 0.0
    if asked is not None:
        return asked
    lam = published_lam(known, foreign.family, foreign.heads)
    progress.say(f"λ = {lam:g}: the published one for a {foreign.family} of H = {foreign.heads} on {known}")
    return lam


def _normalization(foreign: ExternalCheckpoint, known: str | None, progress: Progress) -> str:
    """What its makers fed: the paper's code [0, 1] except on WIDER, mmpretrain's file [0, 1], others their own."""
    if not foreign.heads:
        if foreign.family == "vit":
            progress.warn("its classifier was trained on the class token; here it reads the mean of the patch tokens")
        return "weights"
    if foreign.family == "vit" and known != "wider":
        progress.warn("the paper leaves open how pixels of its ViTs were normalised here: [0, 1] is taken, as its code "
                      "trains; compare with --normalization half")  # fmt: skip
    return "half" if known == "wider" else "unit"


def _preprocess(model: Classifier, foreign: ExternalCheckpoint, normalization: str) -> None:
    own = model.preprocessing.normalized(normalization)
    model.preprocessing = replace(own, interpolation="bilinear") if foreign.heads else own


def _write(out: Path, model: Classifier, checkpoint: Path, naming: str, normalization: str) -> None:
    from mlrec.models.checkpoint import save_model

    built = model.architecture
    config: dict[str, Any] = {
        "backbone": built.backbone, "head": built.head, "heads": built.heads, "lam": built.lam,
        "img_size": built.img_size, "normalization": normalization, "pretrained": False,
    }  # fmt: skip
    notes = [
        f"# imported from {printable(checkpoint.name)}, names of {naming}",
        f"# SHA-256 of that file: {sha256(checkpoint)}",
        *(f"# licence: {LICENCES[key]}" for key in LICENCES if key == naming),
    ]
    with replace_folder(out) as folder:
        save_model(folder / MODEL_FILE, model, config, file_lineage(checkpoint, built.backbone))
        write_text(folder / "config.toml", "\n".join([*notes, "", tomli_w.dumps(config)]))


def summary(imported: ImportResult) -> Sequence[tuple[str, str]]:
    """What to tell of an import: pairs of name and value."""
    unused = (
        f", {len(imported.unused)} unused (first {printable(imported.unused[0])})" if imported.unused else ", 0 unused"
    )
    head = f"{imported.head}, H={imported.heads}, λ={imported.lam:g}" if imported.head == "csra" else imported.head
    return [
        ("naming", imported.naming),
        ("backbone", imported.backbone.partition(".")[0]),  # its weights are the file's, not those of timm's tag
        ("head", head),
        ("labels", f"{len(imported.labels)}: {', '.join(map(printable, imported.labels[:3]))}, ..."),
        ("image size", str(imported.img_size)),
        ("tensors", f"{imported.matched} matched, 0 missing{unused}"),
        ("licence", LICENCES.get(imported.naming, "as its source states; none is in the file")),
        ("written", f"{printable(imported.path / MODEL_FILE)} and config.toml"),
    ]
