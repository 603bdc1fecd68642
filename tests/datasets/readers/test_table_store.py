"""Tables held by column have the cells of the file, and reading one takes little memory per record."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlrec.datasets.readers import csv_file, table_store
from mlrec.datasets.readers.csv_file import read_csv
from mlrec.datasets.readers.csv_labels import read_csv_labels
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.readers.table_dialect import read_delimited
from mlrec.datasets.readers.table_store import Rows, TextColumn, stored
from mlrec.utils.errors import DataError, ValidationReport

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=5) | st.sampled_from(["0", "1", "-1"])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=60), st.integers(1, 5), st.integers(1, 300))
def test_columns_hold_the_cells(
    monkeypatch: pytest.MonkeyPatch, records: list[tuple[str, ...]], most: int, block: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(table_store, "MOST_CODED", most)
        patch.setattr(table_store, "BLOCK", block)
        columns = stored(records, 3)
        rows = Rows(columns)
        assert list(rows) == records == rows
        assert [rows[k] for k in range(len(rows))] == records
        assert rows[::2] == records[::2]
        for k, column in enumerate(columns):
            cells = [record[k] for record in records]
            assert list(column) == cells
            assert column.first_rows() == {cell: cells.index(cell) for cell in dict.fromkeys(cells)}
            assert (column.codes is None) == (len(set(cells)) > most)
            places = np.arange(len(cells))[::-1]
            assert list(column.take(places)) == cells[::-1]
            assert list(column.renamed({cell: f"<{cell}>" for cell in cells})) == [f"<{cell}>" for cell in cells]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=30))
def test_a_file_has_the_records_that_the_csv_module_reads(tmp_path: Path, records: list[list[str]]) -> None:
    path = tmp_path / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["filename", "a", "b"], *records])
    findings = ValidationReport()
    with path.open(encoding="utf-8") as stream:
        reader = csv.reader(stream)
        expected, begun = [], 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                expected.append((begun, tuple(cells)))
            begun = reader.line_num + 1
    fitting = [(line, cells) for line, cells in expected[1:] if len(cells) == 3]
    try:
        table = read_csv(path, findings)
    except DataError:
        assert not fitting
        return
    assert list(zip(table.lines, table.rows, strict=True)) == fitting
    others = [(line, cells) for line, cells in expected[1:] if len(cells) != 3]
    assert [error.partition("fields")[0] for error in findings.errors] == [
        f"{path}: line {line}: {len(cells)} " for line, cells in others
    ]


def test_a_record_may_be_short_of_a_column_that_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("filename,cat,\na.jpg,1,\nb.jpg,0\nc.jpg\nd.jpg,1,\n")
    findings = ValidationReport()
    table = read_delimited(path, findings)
    assert table.columns == ("filename", "cat")
    assert table.rows == [("a.jpg", "1"), ("b.jpg", "0"), ("d.jpg", "1")]
    assert list(table.lines) == [2, 3, 5]
    assert [error.rpartition(": ")[2][:20] for error in findings.errors] == ["1 fields, expected 2"]


def test_an_index_is_found_among_all_records(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(",filename,cat\n0,a.jpg,1\n1,b.jpg\n2,c.jpg,0\n")
    findings = ValidationReport()
    assert read_delimited(path, findings).columns == ("filename", "cat")
    assert len(findings.errors) == len(findings.warnings) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"filename,a\n" + b"x.jpg,1\n" * 40 + b"y.jpg,\xff\n", "not UTF-8 (byte 0xFF at offset 337, line 42)"),
        (b"filename,a\n" + b"x.jpg,1\n" * 40 + b"\0.jpg,1\n", "line 42: a NUL byte"),
        (b"filename,a\nx.jpg,1\n\xc3", "not UTF-8 (byte 0xC3 at offset 19, line 3)"),
    ],
)
def test_what_is_no_text_is_found_wherever_it_is(
    tmp_path: Path, content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file, "PIECE", 5)  # bytes of one character may be in two pieces
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_csv(path, ValidationReport())
    assert said in str(caught.value)
    path.write_text("filename,é\nü.jpg,1\n𝒳.jpg,0\n", encoding="utf-8")
    assert list(read_csv(path, ValidationReport()).column(0)) == ["ü.jpg", "𝒳.jpg"]


def test_memory_per_record_is_that_of_a_byte_per_cell(tmp_path: Path) -> None:
    def peak(records: int) -> int:
        path = tmp_path / f"{records}.csv"
        labels = [f"l{k}" for k in range(40)]
        cells = [f"img/{k:09d}.jpg,{','.join(str(int(k % 40 == c)) for c in range(40))}" for k in range(records)]
        path.write_text("\n".join([",".join(["filename", *labels]), *cells]))
        del cells
        tracemalloc.start()
        (manifest,) = read_csv_labels(path, ReadOptions(), ValidationReport()).manifests
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(manifest) == records
        return most

    # As Python objects a record has 430 bytes for its list alone.
    assert peak(40_000) - peak(20_000) < 200 * 20_000


def test_a_column_of_one_text() -> None:
    assert list(table_store.constant("all", 3)) == ["all"] * 3
    assert TextColumn([]).first_rows() == {}
