"""Curves of the mAP of training runs against λ or the number of heads (Figure 5 and Table 7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlrec.reports.paper.paper_rows import reasons_apart
from mlrec.reports.paper.published import DATASETS, paper_settings
from mlrec.reports.render.table import Column, Row, Table
from mlrec.reports.results import Result
from mlrec.reports.runs_table import BOOTSTRAP_NOTE, Intervals, heading
from mlrec.reports.settings import NOT_THE_METHOD


@dataclass(frozen=True)
class CurvePoint:
    """Point on a curve of mAP against λ or H.

    Attributes:
        x: Value of λ or of the number of heads H.
        mAP: Mean over the seeds, as a fraction.
        sd: Standard deviation over the seeds; None for one seed.
        n: Number of runs.
        bounds: Lower and upper bound of the 95% confidence interval for mAP.
    """

    x: float
    mAP: float
    sd: float | None
    n: int
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """Curve through results that differ only in one configuration key, sorted by the value of this key.

    Attributes:
        name: Name of the method.
        group: Text that describes the evaluation data of the results.
        points: Points on the curve.
        dataset: Key of the paper's dataset in `DATASETS` if its whole test set was evaluated; otherwise "".
    """

    name: str
    group: str
    points: tuple[CurvePoint, ...]
    dataset: str = ""

    @property
    def peak(self) -> CurvePoint:
        """Point with the highest mAP; if there is a tie, the first of these points."""
        return max(self.points, key=lambda point: point.mAP)


def series_of(results: Iterable[Result], key: str, intervals: Intervals | None = None) -> list[Series]:
    """Return curves through CSRA results that differ only in one configuration key.

    Args:
        results: Means over seeds; see `over_seeds`. If multiple results have the same value of the key, the result with
            the most seeds is used. A curve needs at least two values.
        key: Configuration key that varies, "lam" or "heads".
        intervals: Bounds of the 95% confidence intervals; see `runs_table`.
    """
    csra = [result for result in results if result.head == "csra" and result.values["mAP"] is not None]
    along: dict[object, list[Result]] = {}
    for result in csra:
        along.setdefault((_other_settings(result, key), result.block), []).append(result)
    series = []
    for members in along.values():
        points: dict[float, CurvePoint] = {}
        for point in sorted((_point(r, key, intervals or {}) for r in members), key=lambda p: (p.x, -p.n)):
            points.setdefault(point.x, point)
        if len(points) > 1:
            first, curve = members[0], tuple(points.values())
            series.append(Series(_name(first, key), heading(first, csra), curve, _paper_dataset(first)))
    return series


def series_table(series: Sequence[Series], key: str, title: str, notes: Sequence[str] = ()) -> Table:
    """Return a table of all points on the curves; the peak of each curve is marked.

    Args:
        series: Series, as returned by `series_of`.
        key: Configuration key that varies, "lam" or "heads".
        title: Title of the table.
        notes: Additional footnotes.
    """
    sign = {"lam": "λ", "heads": "H"}[key]
    columns = (
        Column("series", "Method", identity=True),
        Column(key, sign, "number"),
        Column("mAP", "mAP", "percent", ranked=True),
        Column("sd", "sd", "percent", absent=""),
        Column("seeds", "n", "number"),
        Column("mAP_low", "low", "percent", block="95% mAP"),
        Column("mAP_high", "high", "percent", block="95% mAP"),
    )
    rows = [
        Row((line.name, p.x, p.mAP, p.sd, p.n, *(p.bounds or (None, None))), f"{line.name} · {line.group}")
        for line in series
        for p in line.points
    ]
    footnotes = [
        *notes,
        f"a separate model was trained for each {sign}; the best {sign} was chosen on the scored split itself",
    ]
    if any(point.bounds for line in series for point in line.points):
        footnotes.append(BOOTSTRAP_NOTE)
    table = Table(title, columns, tuple(rows), tuple(footnotes))
    return table.without_empty_columns(("series", key, "mAP", "sd", "seeds")).with_best()


@dataclass(frozen=True)
class CurvePanel:
    """Panel of Figure 5, which contains the curves for one dataset.

    Attributes:
        title: Name of the dataset.
        series: Curves of the user's runs on this dataset.
        peak: λ at which the paper reports the highest mAP; None if the paper has no panel for this dataset.
        peak_name: Name of the method for which the paper reports this peak.
    """

    title: str
    series: tuple[Series, ...] = ()
    peak: float | None = None
    peak_name: str = ""


def figure5_panels(series: Sequence[Series]) -> list[CurvePanel]:
    """Return the panels of Figure 5 with the curves of the user's runs.

    Args:
        series: Curves of mAP against λ from the user's runs. Curves on data that the paper does not use get additional
            panels.
    """
    panels, drawn = [], set()
    for curve in paper_settings()["figure5"]:
        own = tuple(line for line in series if line.dataset == curve["dataset"])
        name = f"{curve['method']}, H = {curve['heads']}"
        panels.append(CurvePanel(DATASETS[curve["dataset"]].name, own, curve["peak"], name))
        drawn.add(curve["dataset"])
    others: dict[str, list[Series]] = {}
    for line in series:
        if line.dataset not in drawn:
            others.setdefault(line.group, []).append(line)
    return panels + [CurvePanel(group, tuple(lines)) for group, lines in others.items()]


def _paper_dataset(result: Result) -> str:
    """Return the key of the paper's dataset if its whole test set was evaluated; otherwise ""."""
    return next((key for key in DATASETS if not reasons_apart(result, key)), "")


def _other_settings(result: Result, key: str) -> str:
    """Return the settings that must be equal for all points on a curve."""
    free = NOT_THE_METHOD | {key}
    if key == "heads":
        free |= {"temperatures"}
    config = sorted((name, value) for name, value in result.config.items() if name not in free)
    return repr((config, sorted(result.settings.items())))  # settings add weights and training data


def _point(result: Result, key: str, intervals: Intervals) -> CurvePoint:
    x = {"lam": result.lam, "heads": result.heads}[key]
    bounds = intervals.get(result.paths, {}).get("mAP")
    return CurvePoint(float(x or 0), result.values["mAP"] or 0.0, result.spread, len(result.paths), bounds)


def _name(result: Result, key: str) -> str:
    if key == "lam":
        return f"{result.method}, H = {result.heads}"
    return f"{result.method}, λ = {result.lam:g}"


def figure5_note() -> str:
    """Return a footnote that describes the peaks in Figure 5 of the paper."""
    peaks = [
        f"{curve['method']} with H = {curve['heads']} on {DATASETS[curve['dataset']].name} at λ = {curve['peak']:g}"
        for curve in paper_settings()["figure5"]
    ]
    return (
        f"Figure 5 of the paper contains no values; according to its text and curves, the peaks are {', '.join(peaks)}"
    )
