"""Each row of the table of formats: written by the library its users write it with, read back with the same values."""

import bz2
import csv
import gzip
import json
import lzma
import re
import sqlite3
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars
import pyarrow.csv
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet
import pyreadstat
import pytest
import rdata
import sklearn.datasets
from scipy.io import savemat
from sklearn.datasets import dump_svmlight_file
from typer.testing import CliRunner

from genlabel_plugins.cli._app import app
from genlabel_plugins.diagnostics import TableError, load_table
from genlabel_plugins.diagnostics.reading import _child
from genlabel_plugins.diagnostics.reading._files import read_table

RUNNER = CliRunner()
N = 40
SIZE = np.random.default_rng(0).normal(size=N)
GAP = np.where(np.arange(N) % 7, np.arange(N) ** 2 / 8, np.nan)
LEVEL = np.array(["low", "high", "NA"])[np.arange(N) % 3]
KIND = np.array(["01", "1", "x y"])[np.arange(N) // 2 % 3]


def plain():
    """Numbers, numbers with gaps, levels one of which looks like a gap, and classes that look like numbers."""
    return pd.DataFrame({"size": SIZE, "gap": GAP, "level": LEVEL, "kind": KIND})


def declared():
    return plain().assign(level=pd.Categorical(LEVEL), kind=pd.Categorical(KIND))


def coded():
    """Levels and classes as numbers with labels."""
    level, kind = pd.factorize(LEVEL, sort=True), pd.factorize(KIND, sort=True)
    labels = {
        name: {n: str(word) for n, word in enumerate(words)} for name, (_, words) in [("level", level), ("kind", kind)]
    }
    return plain().assign(level=level[0], kind=kind[0]), labels


def check(path, *, exact=True, is_declared=True, target="kind", names=("size", "gap", "level"), **options):
    """Same values, whatever the file; `level` "NA" is a level where the format can say so."""
    frame = read_table(path, target=target, **options).frame
    assert len(frame) == N
    assert list(frame[target].astype(str)) == list(KIND)
    size = frame[names[0]].to_numpy("float64")
    np.testing.assert_array_equal(size, SIZE) if exact else np.testing.assert_allclose(size, SIZE, rtol=1e-14)
    np.testing.assert_array_equal(frame[names[1]].to_numpy("float64", na_value=np.nan), GAP)
    level = frame[names[2]]
    assert list(level.astype(object).where(level.notna(), "NA")) == list(LEVEL)
    assert isinstance(level.dtype, pd.CategoricalDtype) == is_declared
    return frame


def packed(opener):
    def write(path):
        with opener(path, "wb") as file:
            file.write(plain().to_csv(index=False).encode())

    return write


def zstd(path):
    with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
        file.write(plain().to_csv(index=False).encode())


def zipped(path):
    plain().to_csv(path, index=False, compression={"method": "zip", "archive_name": "t.csv"})


def table():
    return pyarrow.Table.from_pandas(declared())


def arrow_stream(path):
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table().schema) as writer:
        writer.write_table(table())


def write_stata(path):
    frame, labels = coded()
    pyreadstat.write_dta(frame, path, variable_value_labels=labels)


def write_spss(path):
    frame, labels = coded()
    pyreadstat.write_sav(frame, path, variable_value_labels=labels, compress=path.suffix == ".zsav")


def cells():
    """Rows of a sheet, below their names."""
    missing = plain().isna().to_numpy()
    rows = plain().to_numpy(object)
    return [list(plain()), *np.where(missing, None, rows).tolist()]


def write_xls(path):
    import xlwt

    book = xlwt.Workbook()
    sheet = book.add_sheet("Data")
    for row, values in enumerate(cells()):
        for column, value in enumerate(values):
            sheet.write(row, column, value)
    book.save(str(path))


def write_xlsb(path):
    from pyxlsbwriter import XlsbWriter

    with XlsbWriter(str(path)) as book:
        book.add_sheet("Data")
        book.write_sheet(cells())


def written_by_readstat(path):
    """The same table, turned into this format by `readstat t.dta t.sas7bdat` of ReadStat 1.1.8: SAS is not for all."""
    path.write_bytes(lzma.decompress((Path(__file__).parent / "readstat.sas7bdat.xz").read_bytes()))


def write_npz(path):
    np.savez(path, size=SIZE, gap=GAP, level=LEVEL, kind=KIND, seed=np.arange(3))


def write_matlab(path):
    savemat(
        path, {"size": SIZE, "gap": GAP[:, None], "t": {"level": LEVEL.astype(object)}, "kind": KIND.astype(object)}
    )


def write_r(path):
    rdata.write_rds(path, declared())


def write_rda(path):
    rdata.write_rda(path, {"t": declared(), "n": 3})


KEEL = """@relation t
@attribute size real[-9.0, 9.0]
@attribute gap real [0.0, 999.5]
@attribute level{low, high, NA}
@attribute kind {01, 1, x y}
@inputs size, gap, level
@outputs kind
@data
"""


def lines(mark, missing):
    columns = zip(SIZE, GAP, LEVEL, KIND, strict=True)
    return "".join(
        mark.join([repr(float(s)), repr(float(g)).replace("nan", missing), v, k]) + "\n" for s, g, v, k in columns
    )


def write_arff(path):
    head = re.sub(r"\\[.*\\]|@(in|out)puts.*", "", KEEL)
    path.write_text((head + lines(",", "?")).replace("x y", "'x y'"))


ORANGE = "size\tgap\tlevel\tkind\ncontinuous\tc\tlow high NA\tdiscrete\n\t\t\tclass\n"
CAPITALS = {"target": "KIND", "names": ("SIZE", "GAP", "LEVEL")}
LOOSE = {"exact": False, "is_declared": False}

# Row of the table in docs/diagnose.md: file, what writes it, how the values may differ.
FORMATS = {
    "CSV": [
        ("t.csv", lambda path: plain().to_csv(path, index=False), LOOSE),
        ("t.tsv", lambda path: polars.from_pandas(plain()).write_csv(path, separator="\t"), LOOSE),
        ("arrow.csv", lambda path: pyarrow.csv.write_csv(pyarrow.Table.from_pandas(plain()), path), LOOSE),
        ("sep.csv", lambda path: path.write_text("sep=;\n" + plain().to_csv(index=False, sep=";", decimal=",")), LOOSE),
    ],
    "columns between blanks": [("t.txt", lambda path: plain().to_csv(path, index=False, sep=" ", na_rep="NA"), LOOSE)],
    "packed": [
        ("t.csv.gz", packed(gzip.open), LOOSE),
        ("t.csv.bz2", packed(bz2.open), LOOSE),
        ("t.csv.xz", packed(lzma.open), LOOSE),
        ("t.zip", zipped, LOOSE),
        ("t.csv.zst", zstd, LOOSE),
    ],
    "Excel": [
        ("t.xlsx", lambda path: plain().to_excel(path, index=False), LOOSE),
        ("t.xls", write_xls, LOOSE),
        ("t.xlsb", write_xlsb, LOOSE),
    ],
    "OpenDocument": [("t.ods", lambda path: plain().to_excel(path, index=False, engine="odf"), LOOSE)],
    "Parquet": [("t.parquet", lambda path: declared().to_parquet(path), {})],
    "Feather and Arrow": [
        ("t.feather", lambda path: declared().to_feather(path), {}),
        ("t.arrow", lambda path: polars.from_pandas(declared()).write_ipc(path), {}),
        ("t.arrows", arrow_stream, {}),
    ],
    "ORC": [("t.orc", lambda path: plain().to_orc(path, index=False), {"is_declared": False})],
    "JSON": [
        ("records.json", lambda path: polars.from_pandas(plain()).write_json(path), {"is_declared": False}),
        ("columns.json", lambda path: plain().to_json(path, double_precision=15), {**LOOSE}),
        ("index.json", lambda path: plain().to_json(path, orient="index", double_precision=15), LOOSE),
        ("split.json", lambda path: plain().to_json(path, orient="split", double_precision=15), LOOSE),
        ("table.json", lambda path: plain().to_json(path, orient="table", double_precision=15), LOOSE),
        ("lists.json", lambda path: path.write_text(json.dumps(plain().to_dict("list"))), {"is_declared": False}),
        ("t.jsonl", lambda path: polars.from_pandas(plain()).write_ndjson(path), {"is_declared": False}),
    ],
    "Stata": [
        ("t.dta", write_stata, {}),
        ("pandas.dta", lambda path: declared().to_stata(path, write_index=False), {}),
    ],
    "SPSS": [
        ("t.sav", write_spss, {}),
        ("t.zsav", write_spss, {}),
        ("t.por", lambda path: pyreadstat.write_por(plain(), path), {**LOOSE, **CAPITALS}),
    ],
    "SAS": [
        ("t.xpt", lambda path: pyreadstat.write_xport(plain(), path, file_format_version=5), LOOSE),
        ("t.sas7bdat", written_by_readstat, LOOSE),
    ],
    "R": [("t.rds", write_r, {}), ("t.rda", write_rda, {})],
    "NumPy": [("t.npz", write_npz, {"is_declared": False})],
    "MATLAB": [("t.mat", write_matlab, {"is_declared": False, "names": ("size", "gap", "t.level")})],
    "ARFF": [("t.arff", write_arff, {"exact": False})],
    "KEEL": [("t.dat", lambda path: path.write_text(KEEL + lines(", ", "<null>")), {"exact": False})],
    "Orange": [("t.tab", lambda path: path.write_text(ORANGE + lines("\t", "?")), {"exact": False})],
}
CASES = [pytest.param(*case, id=f"{row}, {case[0]}") for row, cases in FORMATS.items() for case in cases]


@pytest.mark.filterwarnings("error", "ignore:.*ORC:")
@pytest.mark.parametrize(("name", "write", "differs"), CASES)
def test_every_format_is_read_with_the_values_that_were_written(tmp_path, name, write, differs):
    write(tmp_path / name)
    check(tmp_path / name, **differs)


def test_svmlight_names_its_columns_by_number(tmp_path):
    x = np.stack([SIZE, np.nan_to_num(GAP)], 1)
    for name in ("t.svm", "t.data"):
        dump_svmlight_file(x, np.arange(N) % 2 * 2 - 1, str(tmp_path / name), zero_based=False)
        table = load_table(tmp_path / name, "target")
        assert (table.class_names, table.column_names) == (("-1", "1"), ("V1", "V2"))
        np.testing.assert_allclose(table.x, x, rtol=1e-12)


def test_arrays_of_numpy_lie_beside_the_target(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.stack([SIZE, SIZE**2], 1), y=KIND, test=np.zeros((3, 2)))
    table = load_table(tmp_path / "t.npz", "y")
    assert (table.column_names, table.class_names) == (("X1", "X2"), ("01", "1", "x y"))
    assert table.treatments == (
        "Left out because they have other than 40 rows: 'test'.",
        "Classes of 'y' that are the same number and are kept apart: '01' and '1'.",
    )
    np.save(tmp_path / "t.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(TableError, match="could run code when read"):
        load_table(tmp_path / "t.npy", "V1")


def test_tables_of_scikit_learn_are_there_by_name():
    table = load_table("sklearn:wine", "target")
    assert (table.x.shape, table.class_names) == ((178, 13), ("class_0", "class_1", "class_2"))
    assert table.code == "load_table('sklearn:wine', 'target')"
    with pytest.raises(TableError, match="no table 'vine': there are breast_cancer, covtype"):
        load_table("sklearn:vine", "target")


def test_tables_of_openml_come_from_the_cache(monkeypatch, tmp_path):
    answers = Path(sklearn.datasets.__file__).parent / "tests" / "data" / "openml" / "id_61"
    if not answers.is_dir():
        pytest.skip("this scikit-learn comes without its answers of OpenML")
    cached = tmp_path / "openml" / "openml.org"
    for name, where in (
        ("api-v1-jd-61.json", "api/v1/json/data/61"),
        ("api-v1-jdf-61.json", "api/v1/json/data/features/61"),
        ("api-v1-jdq-61.json", "api/v1/json/data/qualities/61"),
        ("api-v1-jdl-dn-iris-l-2-s-act-.json", "api/v1/json/data/list/data_name/iris/limit/2/status/active/"),
        ("data-v1-dl-61.arff", "data/v1/download/61/iris.arff"),
        ("data-v1-dl-61.arff", "data/v1/download/61"),  # of scikit-learn 1.6
    ):
        path = cached / (where + ".gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((answers / (name + ".gz")).read_bytes())
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    for name in ("openml:61", "openml:iris"):
        table = load_table(name, "class")
        assert (table.x.shape, table.class_names[0]) == ((150, 4), "Iris-setosa")
        assert table.treatments[0] == "Fetched from OpenML: iris, version 1, number 61."


def test_what_openml_does_not_give_costs_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between three tries
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))  # nothing is in the cache
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    done = RUNNER.invoke(app, ["diagnose", "openml:61", "--target", "class"])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("genlabel: openml:61 cannot be fetched: ")


def test_sheets_are_found_by_the_target_or_named(tmp_path):
    path = tmp_path / "t.xlsx"
    with pd.ExcelWriter(path) as writer:
        pd.DataFrame({"Notes": ["size in mm", "of 2020"]}).to_excel(writer, sheet_name="About", index=False)
        plain().to_excel(writer, sheet_name="Data", index=False, startrow=3, startcol=1)
        plain().iloc[::-1].to_excel(writer, sheet_name="More", index=False, header=False)
    frame, notes, _ = read_table(path, target="kind")
    assert list(frame.columns) == ["size", "gap", "level", "kind"]
    assert list(frame["kind"]) == list(KIND)
    assert notes == ["Read from sheet 'Data', not from 'About', 'More' (--sheet)."]
    for sheet in ("More", "3"):
        frame = read_table(path, target="V4", sheet=sheet, header=False).frame
        assert list(frame["V4"]) == list(KIND[::-1])
    with pytest.raises(TableError, match="column 'knd': 'About' has 'Notes'; 'Data' has 'size', 'gap'"):
        load_table(path, "knd")
    with pytest.raises(TableError, match="has no sheet 'Dta': there are 'About', 'Data', 'More'"):
        load_table(path, "kind", sheet="Dta")
    assert "sheet='Data'" in load_table(path, "kind", sheet="Data").code
    pd.DataFrame({"x": SIZE, "day": pd.date_range("2020-01-01", periods=N)}).to_excel(path, index=False)
    with pytest.raises(TableError, match="holds dates"):
        load_table(path, "day")


@pytest.mark.slow
def test_a_sheet_of_a_new_user_gives_a_page_that_names_the_model(tmp_path, iris):
    """Text, dates, missing cells, and the classes in the second sheet."""
    frame = iris.rename(columns={"target": "species"}).assign(
        day=pd.date_range("2020-01-01", periods=150), color=np.where(np.arange(150) % 3, "red", "blue")
    )
    frame.loc[::17, frame.columns[0]] = np.nan
    frame.loc[5, "color"] = None
    with pd.ExcelWriter(tmp_path / "t.xlsx") as writer:
        pd.DataFrame({"what": ["iris"], "who": ["Anderson"]}).to_excel(writer, sheet_name="About", index=False)
        frame.to_excel(writer, sheet_name="Data", index=False)
    out = tmp_path / "page.html"
    options = ["--target", "species", "--out", str(out), "--backends", "gm", "--time-limit", "0"]
    done = RUNNER.invoke(app, ["diagnose", str(tmp_path / "t.xlsx"), *options])
    assert done.exit_code == 0, done.stderr
    page = out.read_text(encoding="utf-8")
    for part in (
        "Read from sheet",
        "dates or times",
        "9 missing values replaced",
        "GenLabelClassifier",
        'id="verdict"',
    ):
        assert part in page, part


def test_value_labels_that_do_not_fit_all_values_are_none_and_equal_ones_keep_their_values(tmp_path):
    frame, labels = coded()
    labels = {"level": {0: "other", 1: "other", 2: "low"}, "kind": labels["kind"], "gap": {0: "none"}}
    pyreadstat.write_sav(frame, tmp_path / "t.sav", variable_value_labels=labels)
    found, notes, _ = read_table(tmp_path / "t.sav", target="kind")
    assert list(found["level"].cat.categories) == ["other (0)", "other (1)", "low"]
    np.testing.assert_array_equal(found["gap"], GAP)
    assert notes == ["Labels are not used where not every value has one: 'gap'."]


@pytest.mark.parametrize("version", [5, 8])
def test_rows_of_sas_transport_are_counted(tmp_path, version):
    path = tmp_path / "t.xpt"
    for n in (1, 2, 3, 8):
        frame = pd.DataFrame({"a": np.arange(n) + 0.5, "k": np.array(["x", "yy", ""])[np.arange(n) % 3]})
        pyreadstat.write_xport(frame, path, file_format_version=version)
        np.testing.assert_array_equal(read_table(path).frame["a"], frame["a"])
    if version == 8:  # which says how many there are
        path.write_bytes(re.sub(rb"(OBSV8 .*?)  8 ", rb"\1 98 ", path.read_bytes(), count=1))
        with pytest.raises(
            TableError, match=r"records 98 rows, of which pyreadstat reads [0-9]+: save the table as CSV"
        ):
            read_table(path)
    else:  # which does not: a last row of blanks is taken for what fills the record up
        pyreadstat.write_xport(pd.DataFrame({"k": ["x", "y", ""]}), path, file_format_version=version)
        assert list(read_table(path).frame["k"]) == ["x", "y"]


def test_what_is_not_read_is_called_by_its_name_with_the_way_to_convert_it(tmp_path):
    (tmp_path / "t.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(88))
    sqlite3.connect(tmp_path / "t.db").executescript("create table t (a); insert into t values (1)")
    plain().to_pickle(tmp_path / "t.pkl")
    plain().to_html(tmp_path / "t.html")
    (tmp_path / "page.xls").write_text("<!DOCTYPE html>\n<html></html>")
    (tmp_path / "t.xml").write_text("<?xml version='1.0'?><t/>")
    (tmp_path / "t.pdf").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "lfs.csv").write_text("version https://git-lfs.github.com/spec/v1\n")
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "t.xml")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "a")
        archive.writestr("b.csv", "b")
    for name, told in {
        "t.h5": "t.h5 is an HDF5 file, as h5py, pandas and MATLAB's -v7.3 write it, which is not read: pd.read_hdf(",
        "t.db": "an SQLite data base, which is not read: pd.read_sql(...).to_csv('table.csv', index=False)",
        "t.pkl": "a pickle, which can run code when read, which is not read: if you trust it, pd.read_pickle(",
        "t.html": "a web page, which is not read: download the table itself, or pd.read_html(",
        "page.xls": "a web page",
        "t.xml": "XML, which is not read: pd.read_xml(",
        "t.pdf": "a PDF document, which is not read: export the table as CSV",
        "lfs.csv": "a pointer of Git LFS, not the file, which is not read: git lfs pull",
        "t.tar.gz": "a tar archive, which is not read: unpack it",
        "two.zip": "is a ZIP archive of 2 files ('a.csv', 'b.csv'): unpack it and name one",
    }.items():
        with pytest.raises(TableError) as error:
            load_table(tmp_path / name, "kind")
        assert told in str(error.value)


@pytest.mark.parametrize(
    ("name", "library"), [("t.xlsx", "python_calamine"), ("t.sav", "pyreadstat"), ("t.rds", "rdata")]
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, tmp_path, name, library):
    write = next(write for cases in FORMATS.values() for case, write, _ in cases if case == name)
    write(tmp_path / name)
    monkeypatch.setitem(sys.modules, library, None)
    done = RUNNER.invoke(app, ["diagnose", str(tmp_path / name), "--target", "kind"])
    assert done.exit_code == 2
    assert f"needs {library}: pip install 'genlabel-plugins[formats]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_files_without_a_header_are_read_and_the_way_is_told(tmp_path):
    path = tmp_path / "iris.data"
    plain().to_csv(path, index=False, header=False)
    with pytest.raises(
        TableError, match=r"first line holds numbers where .* \(--no-header calls them V1, V2, \.\.\.\)"
    ):
        load_table(path, "kind")
    frame = read_table(path, target="V4", header=False).frame
    assert list(frame["V4"]) == list(KIND)
    assert "header=False" in load_table(path, "V4", header=False).code
    (tmp_path / "votes.data").write_text("y,n,y,y,n,x\nn,n,y,n,y,x\n" * 20)
    with pytest.raises(TableError, match="first line says the same several times"):
        load_table(tmp_path / "votes.data", "kind")
    done = RUNNER.invoke(app, ["diagnose", str(path), "--target", "V4", "--no-header", "--sheet", "Data"])
    assert (done.exit_code, "is not a spreadsheet but CSV: leave --sheet out" in done.stderr) == (2, True)
    plain().to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TableError, match="is Parquet, which names its columns: leave --no-header out"):
        load_table(tmp_path / "t.parquet", "kind", header=False)


def test_comments_are_passed_over_and_a_name_that_looks_like_one_is_not(tmp_path):
    rows = plain().to_csv(index=False).splitlines()
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["# of 2020", "#", "", *rows[:9], "# half, of it", *rows[9:]]))
    frame, notes, code = read_table(path, target="kind")
    assert list(frame["kind"]) == list(KIND)
    assert (notes, code) == (["Comments passed over, lines that begin with #: 1."], "")
    colors = plain().assign(kind="#" + plain()["kind"])[["kind", "size"]]
    colors.to_csv(path, index=False)
    assert list(read_table(path, target="kind").frame["kind"]) == list(colors["kind"])
    np.savetxt(path, np.stack([SIZE, np.arange(N) % 2], 1), header="size kind")  # which makes a comment of the names
    assert load_table(path, "kind").class_names == ("0.000000000000000000e+00", "1.000000000000000000e+00")


def test_names_of_rows_as_r_writes_them_are_no_column(tmp_path):
    text = plain().to_csv(sep=" ", quoting=csv.QUOTE_NONNUMERIC, na_rep="NA")  # as write.table does, but for the header
    (tmp_path / "t.txt").write_text(text.removeprefix('"" '))
    frame = check(tmp_path / "t.txt", **LOOSE)
    assert list(frame.columns) == ["size", "gap", "level", "kind"]


@pytest.mark.slow
@pytest.mark.parametrize("death", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "time.sleep(60)"])
def test_a_parser_that_breaks_down_costs_one_sentence(monkeypatch, tmp_path, death):
    path = tmp_path / "t.csv"
    path.write_text(plain().to_csv(index=False) + "1.5,2\n")
    monkeypatch.setattr(_child, "CODE", f"import os, signal, time\n{death}")
    monkeypatch.setattr(_child, "PATIENCE", 0.5)
    done = RUNNER.invoke(app, ["diagnose", str(path), "--target", "kind"])
    told = "t.csv is damaged: the parser of pandas breaks down on it, and line 42 has 2 values and not 4"
    assert (done.exit_code, done.stderr) == (2, f"genlabel: {told}\n")
    write_matlab(tmp_path / "t.mat")
    with pytest.raises(TableError, match=r"t\.mat is damaged: the reader of MATLAB's files breaks down on it"):
        load_table(tmp_path / "t.mat", "kind")


@pytest.mark.slow
def test_lines_out_of_order_are_read_in_a_process_of_their_own(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(plain().to_csv(index=False) + "1.5,2\n")
    frame = read_table(path, target="kind").frame
    assert list(frame["kind"][:N]) == list(KIND)
    assert frame.iloc[N].isna().tolist() == [False, False, True, True]
    path.write_text(plain().to_csv(index=False) + 'a "quote" that,"does not" end,"as\n')
    with pytest.raises(TableError, match="not readable as CSV"):
        load_table(path, "kind")


def test_the_table_of_formats_in_the_docs_has_these_rows():
    page = (Path(__file__).parents[2] / "docs" / "diagnose.md").read_text(encoding="utf-8")
    table = page.partition("| format |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([^|]+?) +\|", table, re.MULTILINE)
    assert rows == [*FORMATS, "svmlight", "scikit-learn", "OpenML"]
