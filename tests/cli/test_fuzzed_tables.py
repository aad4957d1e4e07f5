"""Tables of arbitrary and of damaged bytes end in a table or in one sentence, in bounded time."""

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from genlabel_plugins.diagnostics.reading._files import read_table
from genlabel_plugins.diagnostics.reading.labeled_table import TableError

FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CELL = st.sampled_from(
    ["", "1", "-2.5", "1e999", "nan", "a", '"', '"a,b"', "'", "?", "0012", "é", "\x00", "2020-01-01"]
)
ARFF_LINES = ["@relation r", "@attribute a numeric", "@attribute 'b c' {x, y}", "@attribute c {", "@attribute s string"]
ARFF_LINES += ["@data", "1,x", "{0 1, 1 y}", "?,?", "% no", "@attribute", "@end", "1,'x", "{", "1,x,{2}"]
ARFF_LINE = st.sampled_from(ARFF_LINES)


def _reads_or_says_why(path):
    said = ""
    try:
        read_table(path)
    except (TableError, OSError) as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 600


@pytest.mark.slow
@FUZZ
@given(content=st.binary(max_size=400), suffix=st.sampled_from([".csv", ".tsv", ".arff", ".parquet", ".csv.gz"]))
@example(content=b"PAR1\x00\x00PAR1", suffix=".parquet")
@example(content=b"\x1f\x8b\x08\x00", suffix=".csv.gz")
def test_arbitrary_bytes(content, suffix, tmp_path):
    path = tmp_path / f"table{suffix}"
    path.write_bytes(content)
    _reads_or_says_why(path)


@pytest.mark.slow
@FUZZ
@given(rows=st.lists(st.lists(CELL, max_size=5), max_size=8), separator=st.sampled_from([",", ";", "\t"]))
def test_ragged_cells(rows, separator, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(separator.join(row) for row in rows), encoding="utf-8")
    _reads_or_says_why(path)


@FUZZ
@given(lines=st.lists(ARFF_LINE, max_size=10))
def test_lines_of_arff_in_any_order(lines, tmp_path):
    path = tmp_path / "table.arff"
    path.write_text("\n".join(lines))
    _reads_or_says_why(path)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "table.parquet"
    pd.DataFrame({"a": range(30), "target": ["x", "y", "z"] * 10}).to_parquet(path)
    return path.read_bytes()


@FUZZ
@given(place=st.integers(0, 10**6))
def test_a_parquet_file_whose_tail_is_cut(place, parquet, tmp_path):
    path = tmp_path / "table.parquet"
    path.write_bytes(parquet[: place % len(parquet)])
    with pytest.raises(TableError) as error:
        read_table(path)
    assert "\n" not in str(error.value)
