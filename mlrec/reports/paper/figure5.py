"""`Series`: how mAP goes with λ or with the number of heads, from trained runs (Figure 5, Table 7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlrec.reports.paper.published import DATASETS, paper_settings
from mlrec.reports.render.table import Column, Row, Table
from mlrec.reports.results import Result
from mlrec.reports.runs_table import BOOTSTRAP_NOTE, Intervals, heading
from mlrec.reports.settings import NOT_THE_METHOD


@dataclass(frozen=True)
class CurvePoint:
    """One setting: λ or H, mAP as a fraction (the mean of n seeds), its standard deviation over seeds, its interval."""

    x: float
    mAP: float
    sd: float | None
    n: int
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """Points that differ in one key alone, in its order; `group` says on what they were measured."""

    name: str
    group: str
    points: tuple[CurvePoint, ...]

    @property
    def peak(self) -> CurvePoint:
        """The point of the highest mAP, the first of equals."""
        return max(self.points, key=lambda point: point.mAP)


def series_of(results: Iterable[Result], key: str, intervals: Intervals | None = None) -> list[Series]:
    """CSRA results along `key` ("lam" or "heads"): one series for all that agree in everything else.

    Results are over seeds already, see `over_seeds`; `intervals` as `overview` takes them. A series has at least two
    points; of a point that was trained more than once it holds the one with most seeds.
    """
    csra = [result for result in results if result.head == "csra" and result.values["mAP"] is not None]
    along: dict[object, list[Result]] = {}
    for result in csra:
        along.setdefault((_other_settings(result, key), result.block), []).append(result)
    found = []
    for members in along.values():
        points: dict[float, CurvePoint] = {}
        for point in sorted((_point(r, key, intervals or {}) for r in members), key=lambda p: (p.x, -p.n)):
            points.setdefault(point.x, point)
        if len(points) > 1:
            found.append(Series(_name(members[0], key), heading(members[0], csra), tuple(points.values())))
    return found


def series_table(series: Sequence[Series], key: str, title: str, notes: Sequence[str] = ()) -> Table:
    """The points of all series, the peak of each marked as its best."""
    sign = "λ" if key == "lam" else "H"
    columns = (
        Column("series", "Method", identity=True),
        Column(key, sign, "number"),
        Column("mAP", "mAP", "percent", ranked=True),
        Column("sd", "sd", "percent", absent=""),
        Column("seeds", "n", "number"),
        Column("mAP_low", "low", "percent", block="95 % mAP"),
        Column("mAP_high", "high", "percent", block="95 % mAP"),
    )
    rows = [
        Row((line.name, p.x, p.mAP, p.sd, p.n, *(p.bounds or (None, None))), f"{line.name} · {line.group}")
        for line in series
        for p in line.points
    ]
    chosen = f"each {sign} is a training of its own; the best {sign} was read off the scored split itself"
    bounded = [BOOTSTRAP_NOTE] if any(point.bounds for line in series for point in line.points) else []
    table = Table(title, columns, tuple(rows), (*notes, chosen, *bounded))
    return table.without_empty_columns(("series", key, "mAP", "sd", "seeds")).with_best()


def _other_settings(result: Result, key: str) -> str:
    """The configuration without what makes the series; with λ or H go no others but the temperatures that follow H."""
    left_out = NOT_THE_METHOD | {key} | ({"temperatures"} if key == "heads" else set())
    config = sorted((name, value) for name, value in result.config.items() if name not in left_out)
    return repr((config, sorted(result.settings.items())))  # settings: weights and training data, too


def _point(result: Result, key: str, intervals: Intervals) -> CurvePoint:
    x = result.lam if key == "lam" else result.heads
    bounds = intervals.get(result.paths, {}).get("mAP")
    return CurvePoint(float(x or 0), result.values["mAP"] or 0.0, result.spread, len(result.paths), bounds)


def _name(result: Result, key: str) -> str:
    return f"{result.method}, H = {result.heads}" if key == "lam" else f"{result.method}, λ = {result.lam:g}"


def figure5_note() -> str:
    """Where the peaks of the paper's Figure 5 are, which prints no values."""
    peaks = [
        f"{curve['method']} with H = {curve['heads']} on {DATASETS[curve['dataset']].name} at λ = {curve['peak']:g}"
        for curve in paper_settings()["figure5"]
    ]
    return f"the paper's Figure 5 prints no values; by its text and curves the peaks are: {', '.join(peaks)}"
