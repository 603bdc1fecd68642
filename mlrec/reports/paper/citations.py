"""Citation keys of the published systems in `citations.bib`, for LaTeX tables."""

from __future__ import annotations

import re

from mlrec.reports.paper.published import PublishedRow, shipped

BIB_HEADER = "% Written by mlrec report: the systems that its tables cite.\n\n"
KEYS = {
    "HCP": "wei2016hcp",
    "RCP": "wang2016rcp",
    "Fev+Lv": "yang2016fevlv",
    "SSGRL+": "chen2019ssgrl",
    "ML-GCN": "chen2019mlgcn",
    "MS-CMA": "you2020mscma",
    "KSSNet": "wang2020kssnet",
    "MCAR": "gao2021mcar",
    "ASL": "ridnik2021asl",
    "DHC": "li2016dhc",
    "VA": "guo2017va",  # the name in the paper is short; Guo et al. 2017 report on this dataset with attention
    "SRN": "zhu2017srn",
    "VAA": "sarafianos2018vaa",
    "VAC": "guo2019vac",
    "MobileNetV2": "sandler2018mobilenetv2",
    "EfficientNet-B3": "tan2019efficientnet",
    "ResNet-50": "he2016resnet",
    "ResNet-101": "he2016resnet",
    "ResNet-cut": "yun2019cutmix",
    "ViT-B16": "dosovitskiy2021vit",
    "ViT-L16": "dosovitskiy2021vit",
    "ViT-B/16": "dosovitskiy2021vit",
    "ViT-L/16": "dosovitskiy2021vit",
}
CSRA = "zhu2021csra"


def citation(row: PublishedRow) -> str:
    """Return the BibTeX citation key for a published row.

    Args:
        row: Row of a table in the paper. If its method is not in `KEYS`, as for CSRA, the key is that of the paper
            itself.
    """
    return KEYS.get(row.method, CSRA)


def bibliography(latex: str) -> str:
    """Return the content of a `.bib` file with all entries that a LaTeX text cites; "" if there are none.

    Args:
        latex: Text with `cite` commands.
    """
    cited = {key for keys in re.findall(r"\\cite\{([^}]*)\}", latex) for key in keys.split(",")}
    entries = re.split(r"\n\n(?=@)", shipped("citations.bib").strip())
    wanted = [entry for entry in entries if _key(entry) in cited]
    if not wanted:
        return ""
    return BIB_HEADER + "\n\n".join(wanted) + "\n"


def _key(entry: str) -> str:
    """Return the citation key of a BibTeX entry, or "" for a comment."""
    head, _, _ = entry.partition(",")
    return head.partition("{")[2]
