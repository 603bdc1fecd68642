"""What a table looks like, and that no name can do harm in it."""

from __future__ import annotations

import csv
import io
import json

import pytest

from mlrec.reports.render.formats import FORMATS
from mlrec.reports.render.latex import latex
from mlrec.reports.render.table import Column, Row, Table, percent, shown
from mlrec.reports.render.terminal import render_text, width

COLUMNS = (
    Column("method", "Method", identity=True),
    Column("mAP", "mAP", "percent", ranked=True),
    Column("CP", "CP", "percent", block="All", ranked=True),
    Column("CR", "CR", "percent", block="All", ranked=True),
    Column("gain", "gain", "points", absent=""),
)
TABLE = Table(
    "Toy",
    COLUMNS,
    (
        Row(("ResNet-101", 0.794, 0.8344, None, None), "test"),
        Row(("ResNet-101 + CSRA", 0.8351, 0.8414, 0.725, 0.0411), "test", marks={1: "†"}),
        Row(("other", 0.9, None, None, -0.00001), "subset"),
    ),
    ("† a note",),
).with_best()


def test_numbers_are_printed_as_the_paper_prints_them():
    assert percent(0.83549) == "83.5"
    assert percent(None) == "–"
    assert [shown(v, "points") for v in (0.0329, -0.012, -0.0001, 0.0)] == ["+3.3", "−1.2", "0.0", "0.0"]
    assert shown(40137, "count") == "40,137"
    assert shown(0.05, "number") == "0.05"
    assert shown(0.00001, "p") == "<0.001"


def test_best_is_marked_within_its_group_only():
    assert [sorted(row.best) for row in TABLE.rows] == [[], [1, 2], []]


def test_numbers_that_print_alike_are_both_best():
    rows = tuple(Row((name, value)) for name, value in (("a", 0.83512), ("b", 0.83489), ("c", 0.8)))
    table = Table("t", (Column("m", "m"), Column("v", "v", "percent", ranked=True)), rows).with_best()
    assert [bool(row.best) for row in table.rows] == [True, True, False]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 cells for 1 columns"):
        Table("t", (Column("a", "a"),), (Row((1, 2)),))


def test_a_block_has_room_for_its_heading():
    columns = (Column("a", "a"), Column("b", "b", block="a long heading"), Column("c", "c", block="a long heading"))
    lines = render_text(
        [Table("t", (*columns, Column("d", "d", block="x")), (Row(("1", "2", "3", "4")),))]
    ).splitlines()
    assert lines[2:4] == ["    a long heading    x", "a  b              c  d"]


def test_terminal_text():
    rule = "─" * 44
    assert render_text([TABLE]) == "\n".join(
        [
            "Toy",
            rule,
            "                           ┄┄┄ All ┄┄┄",
            "Method              mAP      CP     CR  gain",
            rule,
            "test",
            "ResNet-101         79.4    83.4      –",
            "ResNet-101 + CSRA  83.5*†  84.1*  72.5  +4.1",
            "",
            "subset",
            "other              90.0       –      –   0.0",
            rule,
            "* best in its block",
            "† a note",
            "",
        ]
    )


def test_terminal_columns_are_aligned_also_under_wide_names():
    rows = (Row(("漢字", 0.5)), Row(("abcdef", 1.0)))
    lines = render_text([Table("t", (Column("n", "n"), Column("v", "v", "percent")), rows)]).splitlines()
    assert lines[4:6] == ["漢字     50.0", "abcdef  100.0"]
    assert {width(line) for line in lines[4:6]} == {13}


def test_bold_on_a_terminal_asterisk_elsewhere():
    assert "\x1b[1m83.5\x1b[0m†" in render_text([TABLE], styled=True)
    assert "best of its block" not in render_text([TABLE], styled=True)


def test_a_column_of_sentences_is_wrapped_next_to_its_names():
    sentence = "data: 658 images/s with 2 cores; cpu: 194 images/s; the device limits training"
    columns = (Column("name", "Check"), Column("verdict", ""), Column("found", "Found"))
    table = Table("ready", columns, (Row(("speed", "ok", sentence)), Row(("disk", "ok", "40 GB free"))))
    assert render_text([table], columns=80).splitlines()[4:7] == [
        "speed  ok  data: 658 images/s with 2 cores; cpu: 194 images/s; the device limits",
        "           training",
        "disk   ok  40 GB free",
    ]


def test_a_table_too_wide_is_folded_with_its_names_repeated():
    folded = render_text([TABLE], columns=36)
    assert folded.count("ResNet-101 + CSRA") == folded.count("Method") == 3
    assert folded.count("a note") == 1
    assert max(map(width, folded.splitlines())) <= 36
    assert render_text([TABLE], columns=500) == render_text([TABLE])


def test_markdown_bolds_the_best_and_has_a_cell_for_every_column():
    lines = FORMATS["md"]([TABLE]).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in table} == {len(COLUMNS) + 1}
    assert "| ResNet-101 + CSRA | **83.5**<sup>†</sup> | **84.1** | 72.5 | +4.1 |" in lines


def test_latex_has_booktabs_rules_and_as_many_cells_as_columns():
    lines = FORMATS["latex"]([TABLE]).splitlines()
    assert r"\begin{tabular}{lrrrr}" in lines
    assert [line for line in lines if "rule" in line] == [
        r"\toprule", r"\cmidrule(lr){3-4}", r"\midrule", r"\midrule", r"\bottomrule",
    ]  # fmt: skip
    assert r"ResNet-101 + CSRA & \textbf{83.5} & \textbf{84.1} & 72.5 & +4.1 \\" in lines
    noted = latex([TABLE], notes=True).splitlines()
    assert r"ResNet-101 + CSRA & \textbf{83.5}\textsuperscript{$\dagger$} & \textbf{84.1} & 72.5 & +4.1 \\" in noted
    assert r" &  & \multicolumn{2}{c}{All} &  \\" in lines
    assert {line.count("&") for line in lines if line.startswith(("ResNet", "other", "Method"))} == {4}


def test_programs_get_fractions_in_full_precision_and_null_for_undefined():
    (first, second, third) = csv.DictReader(io.StringIO(FORMATS["csv"]([TABLE])))
    assert float(second["mAP"]) == 0.8351
    assert first["CR"] == ""
    assert third["group"] == "subset"
    value = json.loads(FORMATS["json"]([TABLE]))
    assert value["rows"][0]["CR"] is None
    assert value["rows"][1]["best"] == ["mAP", "CP"]
    assert value["rows"][1]["marks"] == {"mAP": "†"}
    assert [column["key"] for column in value["columns"]] == ["method", "mAP", "CP", "CR", "gain"]
    assert len(json.loads(FORMATS["json"]([TABLE, TABLE]))) == 2


HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "a|b",
    "<script>alert(1)</script>",
    "x\x1b[31m\ny",
    "50%_a&b#{}$~^\\",
    "![](x)",
]


def hostile(name: str) -> Table:
    return Table(name, (Column("n", "n"), Column("v", "v", "percent")), (Row((name, 0.5), name),), (name,))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_spreadsheet_takes_text_for_a_formula(name):
    for row in csv.reader(io.StringIO(FORMATS["csv"]([hostile(name)]))):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)
    negative = Table("t", (Column("v", "v", "points"),), (Row((-0.5,)),))
    assert "\n,-0.5," in FORMATS["csv"]([negative])


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("name_of_format", ["table", "md", "latex"])
def test_names_never_break_lines_or_reach_the_terminal_raw(name, name_of_format):
    drawn = FORMATS[name_of_format]([hostile(name)])
    assert "\x1b" not in drawn
    assert len(drawn.splitlines()) == len(FORMATS[name_of_format]([hostile("plain")]).splitlines())


def test_markdown_and_latex_escape_their_special_characters():
    assert "&lt;script>" in FORMATS["md"]([hostile("<script>")])
    assert "a\\|b" in FORMATS["md"]([hostile("a|b")])
    assert r"50\%\_a\&b\#\{\}\$\textasciitilde{}\textasciicircum{}\textbackslash{}" in FORMATS["latex"](
        [hostile("50%_a&b#{}$~^\\")]
    )


def test_empty_columns_are_left_out():
    table = Table(
        "t", (Column("a", "a"), Column("b", "b"), Column("c", "c")), (Row((None, "x", None), best=frozenset({1})),)
    )
    small = table.without_empty_columns(keep=["c"])
    assert [column.key for column in small.columns] == ["b", "c"]
    assert small.rows[0].best == {0}
