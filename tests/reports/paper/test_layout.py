"""Tables in the paper's own form: every printed number in its row and column, read back from LaTeX."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

import mlrec.reports
from mlrec.reports.paper.citations import BIB_HEADER, KEYS, bibliography
from mlrec.reports.paper.layout import paper_layout, table1_layout
from mlrec.reports.paper.published import extra_rows
from mlrec.reports.paper.table1 import table_1
from mlrec.reports.render.latex import latex
from mlrec.reports.render.table import Table
from mlrec.reports.results import Result, result_of
from mlrec.run_folders.record import Run
from tests.reports.builders import write_run

DATA = Path(mlrec.reports.__file__).parent / "data"
NAMES = {"ViT-B16": "ViT-B/16", "ViT-L16": "ViT-L/16", "ResNet-101 (CutMix)": "ResNet-cut"}
DATASETS = {"coco2014": "MS-COCO 2014", "voc2007": "VOC2007", "wider": "WIDER-Attribute", "imagenet": "ImageNet"}


def printed(number: int) -> list[dict[str, str]]:
    """The rows of a table in the file of facts, as text."""
    with (DATA / "paper_results.csv").open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["table"] == str(number)]


def layout(number: int) -> Table:
    return table1_layout(table_1([])) if number == 1 else paper_layout(number, [])


def name_of(text: str) -> str:
    for old, new in NAMES.items():
        text = text.replace(old, new)
    return text


def read(tex: str) -> tuple[list[str], list[list[str]]]:
    """The headings and the rows of a LaTeX table, without bold and citations."""
    body = tex.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    lines = [line.removesuffix(r" \\") for line in body.splitlines() if " & " in line]
    lines = [line for line in lines if r"\multicolumn" not in line]
    plain = [re.sub(r"~\\cite\{\w+\}|\\textbf\{([^}]*)\}", r"\1", line) for line in lines]
    rows = [[cell.strip() for cell in line.split(" & ")] for line in plain]
    return rows[0], rows[1:]


def number_text(text: str) -> str:
    return f"{float(text):.1f}" if text else "--"


@pytest.mark.parametrize(("number", "extra_column"), [(2, True), (3, True), (4, False), (5, False)])
def test_the_rows_of_tables_2_to_5_are_those_of_the_paper(number: int, extra_column: bool) -> None:
    headings, rows = read(latex([layout(number)]))
    assert len({row[0] for row in rows}) == len(rows)
    by_name = {row[0]: row[1:] for row in rows}
    order = list(dict.fromkeys(name_of(row["method"]) for row in printed(number)))
    assert list(by_name) == order, "the order of the paper"
    keys = ["mAP", "CP", "CR", "CF1", "OP", "OR", "OF1", "CP_3", "CR_3", "CF1_3", "OP_3", "OR_3", "OF1_3"]
    if number == 5:
        keys = ["mAP", "CF1", "OF1"]
    expected: dict[str, list[str]] = {}
    for row in printed(number):
        name = name_of(row["method"])
        if extra_column:
            expected.setdefault(name, ["--", "--"])[row["extra_data"] == "coco"] = number_text(row["mAP"])
        else:
            expected[name] = [number_text(row[key]) for key in keys]
    assert by_name == expected
    assert headings[1:] == (
        ["no extra data", "extra data"] if extra_column else [key.removesuffix("_3") for key in keys]
    )


def test_table_1_has_the_baseline_best_and_fixed_lambda_of_each_model() -> None:
    _, rows = read(latex([layout(1)]))
    shown, dataset = {}, ""
    for row in rows:
        dataset = row[0] or dataset
        shown[(dataset, row[1], row[2])] = row[3:]
    facts: dict[tuple[str, str, str], dict[str, dict[str, str]]] = {}
    for row in printed(1):
        key = (DATASETS[row["dataset"]], row["resolution"], name_of(row["method"]))
        facts.setdefault(key, {})[row["note"].partition(";")[0]] = row
    assert list(shown) == list(facts)
    assert len(rows) == 16
    for key, parts in facts.items():
        score = {note: float(row["mAP"] or row["top1"]) for note, row in parts.items()}
        base, best, fixed = score["baseline"], score["best lambda"], score["fixed lambda"]
        expected = [f"{base:.1f}", parts["best lambda"]["lam"], f"{best:.1f}", f"+{best - base:.1f}"]
        expected += [parts["fixed lambda"]["lam"], f"{fixed:.1f}", f"+{fixed - base:.1f}"]
        assert shown[key] == expected


def test_table_1_has_the_highest_number_of_each_row_in_bold() -> None:
    bold = [re.findall(r"\\textbf\{([^}]*)\}", line) for line in latex([layout(1)]).splitlines() if r"\cite" in line]
    for parts, (_, best, fixed) in zip(bold, zip(*[iter(printed(1))] * 3, strict=True), strict=True):
        scores = [number_text(row["mAP"] or row["top1"]) for row in (best, fixed)]
        assert parts == [score for score in scores if score == max(scores)]


def test_table_6_has_check_marks_and_the_temperature() -> None:
    headings, rows = read(latex([layout(6)]))
    check = r"$\checkmark$"
    assert headings == ["Model", "Average", "Spatial", "T", r"$\lambda$", "mAP"]
    scores = [number_text(row["mAP"]) for row in printed(6)]
    assert [row[1:4] for row in rows] == [[check, "", "1"], ["", check, "1"], [check, check, "1"]]
    assert [row[-1] for row in rows] == scores == ["82.1", "84.2", "85.3"]


def test_table_7_is_two_by_five_and_table_8_two_by_two() -> None:
    headings, rows = read(latex([layout(7)]))
    assert headings[1:] == [f"H = {heads}" for heads in (1, 2, 4, 6, 8)]
    expected = {(name_of(row["backbone"]), f"H = {row['heads']}"): row["mAP"] for row in printed(7)}
    assert {(row[0], h): cell for row in rows for h, cell in zip(headings[1:], row[1:], strict=True)} == expected
    headings, rows = read(latex([layout(8)]))
    assert headings == ["Model", "Normalization", "H = 2", "H = 4"]
    facts = {(("without" if "unnorm" in row["method"] else "with"), row["heads"]): row["mAP"] for row in printed(8)}
    assert {row[1]: row[2:] for row in rows} == {
        kind: [facts[kind, heads] for heads in ("2", "4")] for kind in ("with", "without")
    }


@pytest.mark.parametrize("number", range(1, 9))
def test_each_row_of_the_paper_cites_a_system_of_the_bibliography(number: int) -> None:
    tex = latex([layout(number)])
    rows = [line for line in tex.splitlines() if r"\cite" in line]
    assert len(rows) == len(read(tex)[1])
    cited = set(re.findall(r"\\cite\{(\w+)\}", tex))
    entries = bibliography(tex)
    assert entries.startswith(BIB_HEADER)
    assert set(re.findall(r"^@\w+\{(\w+),", entries, re.MULTILINE)) == cited
    for row in printed(number):
        if "CSRA" in row["method"]:
            name = name_of(row["method"]).partition(",")[0].split()[0]
            assert any(name in line and "zhu2021csra" in line for line in rows)


def test_the_bibliography_is_complete_and_each_entry_has_its_facts() -> None:
    text = (DATA / "citations.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@(\w+)\{(\w+),\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    keys = [key for _, key, _ in entries]
    assert len(keys) == len(set(keys)) == text.count("@")
    assert set(KEYS.values()) | {"zhu2021csra"} == set(keys)
    for kind, key, body in entries:
        venue = {"article": "journal", "inproceedings": "booktitle"}[kind]
        fields = dict(re.findall(r"^ +(\w+) += \{(.*?)\},?$", body, re.MULTILINE | re.DOTALL))
        assert {"author", "title", venue, "year"} <= set(fields), key
        assert fields["year"] in key
        first = fields["author"].partition(",")[0].lower()
        assert key.startswith(first.replace(" ", "")), key
    assert bibliography("no citation") == ""


def own_run(tmp_path: Path, name: str, **config: object) -> Result:
    path = write_run(tmp_path, name, config=config, kind="csv", dataset="my_data")
    return result_of(Run.load(path), conventions="csra")


def test_own_runs_are_in_a_block_of_their_own_without_citation(tmp_path: Path) -> None:
    results = [own_run(tmp_path, f"r{heads}", heads=heads, lam=0.5) for heads in (1, 2, 3) if heads != 3]
    for number in (4, 5, 6, 7, 8):
        table = paper_layout(number, results)
        own = [row for row in table.rows if not row.cite]
        assert own
        assert all(row.group.startswith("Own runs on my_data test, 4 samples") for row in own)
        assert all("not comparable with" in row.group for row in own)
        assert [row for row in table.rows if row.cite] == [row for row in table.rows if row not in own]
        assert table.rows[-len(own) :] == tuple(own), "below the rows of the paper"
    heads = paper_layout(7, results)
    (line,) = [row for row in heads.rows if not row.cite]
    by_key = dict(zip([column.key for column in heads.columns], line.cells, strict=True))
    assert by_key["lam"] == 0.5
    assert [by_key[f"H{n}"] for n in (1, 2)] == [result.values["mAP"] for result in results]
    assert [by_key[f"H{n}"] for n in (4, 6, 8)] == [None] * 3


def test_own_runs_with_equal_heads_are_different_rows(tmp_path: Path) -> None:
    results = [own_run(tmp_path, f"r{lr}", heads=2, lam=0.5, lr=lr) for lr in (0.01, 0.02)]
    own = [row for row in paper_layout(7, results).rows if not row.cite]
    assert len(own) == 2


def test_an_attention_with_lambda_0_has_no_check_mark(tmp_path: Path) -> None:
    (row,) = [row for row in paper_layout(6, [own_run(tmp_path, "zero", lam=0.0)]).rows if not row.cite]
    assert row.cells[1:4] == ("✓", None, None)


def test_results_of_a_server_are_added_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("method,mAP,extra_data\nmine,90.5,\nmine,93.1,coco\n", encoding="utf-8")
    table = paper_layout(3, [], extra_rows(path))
    (row,) = [row for row in table.rows if not row.cite]
    assert (row.group, row.cells) == ("Added rows", ("mine", 0.905, 0.931))


def test_notes_of_own_rows_name_seeds_and_settings(tmp_path: Path) -> None:
    from mlrec.reports.results import over_seeds

    rng = np.random.default_rng(0)
    for seed in (0, 1):
        write_run(
            tmp_path, f"s{seed}", config={"seed": seed, "lam": 0.3, "epochs": 5}, logits=rng.normal(size=(4, 4)),
            kind="csv", dataset="my_data",
        )  # fmt: skip
    results = over_seeds([result_of(Run.load(tmp_path / f"s{seed}"), conventions="csra") for seed in (0, 1)])
    table = paper_layout(4, results)
    assert any("mean of 2 runs; the standard deviation" in note for note in table.footnotes)
    assert any(note.startswith("own: scored from stored predictions") for note in table.footnotes)
