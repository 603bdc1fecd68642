"""`mlrec import`: convert a third-party checkpoint to `model.safetensors` and `config.toml`."""

from __future__ import annotations

import logging
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

if TYPE_CHECKING:
    from mlrec.models.classifier import Classifier
    from mlrec.models.external_checkpoint import ExternalCheckpoint


logger = logging.getLogger(__name__)
KNOWN_LABELS: dict[str, tuple[str, ...]] = {
    "voc2007": voc.LABELS,
    "coco2014": coco_layout.LABELS,
    "wider": wider.LABELS,
}
LICENCES = {
    "the paper's code": "the repository is under AGPL-3.0; ask the authors for the license of the weights",
    "mmpretrain": "mmpretrain is under Apache-2.0",
}
TRAINED_AT = 448  # pixels: input size of most published CSRA models


@dataclass(frozen=True)
class ImportResult:
    """Model and labels recognized in an imported checkpoint.

    Attributes:
        path: Written folder.
        naming: Name of the code base that wrote the checkpoint, inferred from the tensor names.
        backbone: timm name of the backbone.
        head, heads, lam: Name of the head, number of heads, and λ.
        labels: Names of the labels.
        img_size: Side length of the input in pixels.
        matched: Number of imported tensors. All tensors of the model are imported.
        unused: Names of unused tensors.
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
) -> ImportResult:
    """Recognize a checkpoint and write the model to a folder.

    Args:
        checkpoint: Checkpoint file written by the paper's code, mmpretrain, CutMix, torchvision or timm.
        out: Folder that is empty or does not exist; by default `imported/` followed by the stem of the file name.
        lam: Value of λ, which checkpoints do not contain; by default the published value for the dataset, backbone and
            number of heads.
        dataset: `voc2007`, `coco2014`, `wider` or the folder of a prepared dataset, which defines the label names; by
            default inferred from the number of labels. If no published dataset has this number, the names are
            `label_0`, `label_1` and so on.
        backbone: timm name of the backbone, required if the tensor names do not identify the backbone.
        img_size: Side length of the input in pixels; by default, the size that matches the position embeddings. Without
            position embeddings, the default is 448 for CSRA, and the backbone default for other heads.
        normalization: Key in `NORMALIZATIONS`, or "weights" for the normalization of the pretrained weights; by default
            the normalization of the source.

    Raises:
        ModelError: The file does not contain plain weights, the tensor names or λ are unknown, the tensors do not match
            the model or the dataset, or `out` is not empty.
        UsageError: `normalization` or `dataset` is unknown, or `lam` is set but the head is not CSRA.
    """
    from mlrec.models.external_checkpoint import assemble, recognize
    from mlrec.models.weights import check_finite, read_tensors, unwrapped

    if normalization is not None and normalization not in ("weights", *NORMALIZATIONS):
        choices = ", ".join(("weights", *NORMALIZATIONS))
        raise UsageError(f"--normalization {normalization}: unknown normalization; choose one of {choices}")
    out = out or Path("imported") / checkpoint.stem
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} already exists; choose a different --out")
    try:
        tensors = unwrapped(read_tensors(checkpoint), str(checkpoint))
        check_finite(tensors, str(checkpoint))
        external = recognize(tensors)
        name = _backbone(external, backbone)
        labels, known = _labels(external, dataset)
        lam = _lam(external, known, lam)
    except ModelError as error:
        if str(error).startswith(str(checkpoint)):
            raise
        raise ModelError(f"{checkpoint}: {error}") from error
    size = img_size or external.img_size
    if size is None and external.heads:
        size = TRAINED_AT
    model, unused = assemble(external, name, str(checkpoint), lam=lam, img_size=size, labels=labels)
    normalization = normalization or _normalization(external, known)
    _preprocess(model, external, normalization)
    _write(out, model, checkpoint, external.naming, normalization)
    built = model.architecture
    of_head = 1 + (external.bias is not None)  # a linear classifier: weight and perhaps bias
    matched = len(external.backbone_tensors) - len(unused) + max(external.heads, of_head)
    return ImportResult(
        out,
        external.naming,
        built.backbone,
        built.head,
        built.heads,
        lam,
        labels,
        built.img_size,
        matched,
        tuple(unused),
    )


def _backbone(external: ExternalCheckpoint, asked: str | None) -> str:
    from mlrec.models.weights import BACKBONE_PREFIX

    if any(key.startswith(BACKBONE_PREFIX) for key in external.backbone_tensors):
        raise ModelError("the file is already an mlrec model; use it directly with eval, predict, attend or export")
    if external.weight is None and external.family != "other":
        raise ModelError(
            "the file contains a backbone without a classifier; start training from this file with mlrec train "
            "--weights FILE"
        )
    name = asked or external.backbone
    if name is None or external.weight is None:
        first = next(iter(external.backbone_tensors), "")
        raise ModelError(
            f"no known model has these tensor names (first of {len(external.backbone_tensors):,}: '{first}'); for a "
            "timm model, set --backbone NAME"
        )
    return name


def _labels(external: ExternalCheckpoint, dataset: str | None) -> tuple[tuple[str, ...], str | None]:
    """Return the label names, and the name of the published dataset from which λ is derived."""
    assert external.weight is not None
    count = external.weight.shape[-2]
    if not count:
        raise ModelError("the head has no labels; download the file again")
    if dataset is None:
        return _inferred_labels(count)
    labels, known = _labels_of_dataset(dataset, bool(external.heads))
    if len(labels) != count:
        raise ModelError(
            f"the head has {counted(count, 'label')}, but {dataset} has {len(labels)}; choose a different --dataset"
        )
    return labels, known


def _inferred_labels(count: int) -> tuple[tuple[str, ...], str | None]:
    """Return the labels of the published dataset with this number of labels, otherwise numbered labels."""
    for known, labels in KNOWN_LABELS.items():
        if len(labels) == count:
            logger.info(f"{counted(count, 'label')}: using the label names of {known}")
            return labels, known
    numbered = tuple(f"label_{k}" for k in range(count))
    logger.info(f"{counted(count, 'label')}: named {numbered[0]}, ...")
    return numbered, None


def _labels_of_dataset(dataset: str, is_csra: bool) -> tuple[tuple[str, ...], str | None]:
    """Return the labels of a dataset, and the published dataset with the same labels."""
    if dataset in KNOWN_LABELS:
        return KNOWN_LABELS[dataset], dataset
    if not (Path(dataset) / DATASET_FILE).is_file():
        raise UsageError(
            f"--dataset {dataset}: unknown dataset; use {', '.join(KNOWN_LABELS)} or the folder of a prepared dataset"
        )
    labels = tuple(Dataset.load(dataset).info.labels)
    known = next((name for name, names in KNOWN_LABELS.items() if set(names) == set(labels)), None)
    if known is None or not is_csra or labels == KNOWN_LABELS[known]:
        return labels, known
    # published CSRA models have the published order of labels
    logger.info(f"the labels are in the published order of {known}, not in the order of {dataset}")
    return KNOWN_LABELS[known], known


def _lam(external: ExternalCheckpoint, known: str | None, asked: float | None) -> float:
    from mlrec.models.paper_checkpoints import published_lam

    if not external.heads:
        if asked:
            raise UsageError(
                "--lam applies to CSRA, but the file contains a linear classifier with average pooling; omit --lam"
            )
        return 0.0
    if asked is not None:
        return asked
    lam = published_lam(known, external.family, external.heads)
    logger.info(f"λ = {lam:g}, the published value for {external.family} with H = {external.heads} on {known}")
    return lam


def _normalization(external: ExternalCheckpoint, known: str | None) -> str:
    """Return the normalization of an imported checkpoint.

    The result is "unit" for CSRA ("half" on WIDER), and "weights" for other heads.
    """
    if not external.heads:
        if external.family == "vit":
            logger.warning(
                "the classifier was trained on the class token, but is applied here to the mean of the patch tokens"
            )
        return "weights"
    if known == "wider":
        return "half"
    if external.family == "vit":
        logger.warning(
            "the paper does not state the pixel normalization of its ViTs on this dataset, so [0, 1] is used, as in "
            "the paper's training code; compare with --normalization half"
        )
    return "unit"


def _preprocess(model: Classifier, external: ExternalCheckpoint, normalization: str) -> None:
    model.preprocessing = model.preprocessing.normalized(normalization)
    if external.heads:  # the code of the paper resizes bilinearly
        model.preprocessing = replace(model.preprocessing, interpolation="bilinear")


def _write(out: Path, model: Classifier, checkpoint: Path, naming: str, normalization: str) -> None:
    from mlrec.models.checkpoint import save_model
    from mlrec.models.weights import file_lineage

    built = model.architecture
    config: dict[str, Any] = {
        "backbone": built.backbone,
        "head": built.head,
        "heads": built.heads,
        "lam": built.lam,
        "img_size": built.img_size,
        "normalization": normalization,
        "pretrained": False,
    }
    notes = [
        f"# imported from {printable(checkpoint.name)}, tensor names from {naming}",
        f"# SHA-256 of the imported file: {sha256(checkpoint)}",
        *(f"# license: {LICENCES[key]}" for key in LICENCES if key == naming),
    ]
    with replace_folder(out) as folder:
        save_model(folder / MODEL_FILE, model, config, file_lineage(checkpoint, built.backbone))
        write_text(folder / "config.toml", "\n".join([*notes, "", tomli_w.dumps(config)]))


def summary(imported: ImportResult) -> Sequence[tuple[str, str]]:
    """Return the information to print about an import, as name-value pairs."""
    unused = f"{len(imported.unused)} unused"
    if imported.unused:
        unused += f" (first {imported.unused[0]})"
    head = imported.head
    if head == "csra":
        head = f"{head}, H={imported.heads}, λ={imported.lam:g}"
    return [
        ("naming", imported.naming),
        ("backbone", imported.backbone.partition(".")[0]),  # its weights are the file's, not those of timm's tag
        ("head", head),
        ("labels", f"{len(imported.labels)}: {', '.join(imported.labels[:3])}, ..."),
        ("image size", str(imported.img_size)),
        ("tensors", f"{imported.matched} matched, 0 missing, {unused}"),
        ("license", LICENCES.get(imported.naming, "see the source of the file; the file does not contain a license")),
        ("written", f"{imported.path / MODEL_FILE} and config.toml"),
    ]
