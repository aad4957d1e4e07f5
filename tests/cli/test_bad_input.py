"""Input that nothing can be made of costs one sentence and exit code 2; what can be mended is mended, and said."""

import gzip
import json

import numpy as np
import pandas as pd
import polars
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from genlabel_plugins.cli._app import app
from genlabel_plugins.diagnostics import LabeledTable, TableError, diagnose, load_table, prepare_table

RUNNER = CliRunner()


def run(*arguments):
    return RUNNER.invoke(app, ["diagnose", *map(str, arguments)])


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def rows(n=30, *, columns="a,b", target=lambda i: i % 2, header="kind"):
    rng = np.random.default_rng(0)
    names = columns.split(",")
    lines = [",".join([*names, header])]
    lines += [",".join([*(f"{v:.3f}" for v in rng.normal(size=len(names))), str(target(i))]) for i in range(n)]
    return "\n".join(lines) + "\n"


REFUSED = {
    "missing target": (rows(), "knid", "there is no column 'knid': the closest are 'kind'"),
    "no header": (rows().partition("\n")[2], "kind", "the first line holds numbers"),
    "one class": (rows(target=lambda i: "only"), "kind", "holds one class only, 'only'"),
    "one row in each class but one": (rows(30, target=lambda i: i if i > 24 else 0), "kind", "five folds need"),
    "a measurement": (rows(100, target=lambda i: i / 7), "kind", "looks like a measurement"),
    "names of rows": (rows(150, target=lambda i: f"row{i}"), "kind", "more than 100"),
    "empty target": (rows(target=lambda i: ""), "kind", "is empty"),
    "target alone": ("kind\n" + "a\nb\n" * 20, "kind", "no column is left"),
    "constant columns alone": ("a,kind\n" + "1,x\n1,y\n" * 20, "kind", "no column is left"),
    "texts alone": ("a,kind\n" + "".join(f"t{i},{i % 2}\n" for i in range(60)), "kind", "no column is left"),
    "header alone": ("a,b,kind\n", "kind", "nothing to diagnose"),
    "blank lines": ("\n\n\n", "kind", "no line of text"),
    "quotes alone": ('""\n"\n', "kind", "no line of text"),
    "empty": ("", "kind", "is empty"),
    "too many values in a row": ("a,kind\n1,x\n1,2,3,x\n", "kind", "line 3 has more values"),
    "too many values in every row": ("a,kind\n" + "1,2,x\n" * 9, "kind", "a line has more values"),
    "a title above the names": ("My table\n\n" + rows(), "kind", "more values than the first line"),
    "one infinite class": (rows(target=lambda i: ["inf", "NaN"][i % 2]), "kind", "holds one class only, 'inf'"),
    "target twice": (rows(columns="a,kind"), "kind", "stands above more than one column"),
}


@pytest.mark.parametrize(("text", "target", "said"), REFUSED.values(), ids=REFUSED)
def test_a_table_that_cannot_be_used_costs_one_sentence(tmp_path, text, target, said):
    done = run(write(tmp_path / "table.csv", text), "--target", target)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not done.stdout


FILES = {
    "absent": (None, "there is no file"),
    "binary": (b"\x00\x01\x02\x03" * 50, "not a text file"),
    "UTF-16 without a mark": (rows().encode("utf-16-le"), "(--encoding utf-16-le)"),
    "damaged gzip": (gzip.compress(rows(500).encode())[:-900], "damaged gzip"),
    "not gzip": (b"\x1f\x8bnonsense nonsense", "damaged gzip"),
    "spreadsheet": (b"PK\x03\x04" + bytes(100), "save the table as CSV"),
    "damaged Parquet": (b"PAR1" + bytes(100), "not readable as Parquet"),
}


@pytest.mark.parametrize(("raw", "said"), FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_read_costs_one_sentence(tmp_path, raw, said):
    path = tmp_path / "table.csv"
    if raw is not None:
        path.write_bytes(raw)
    done = run(path, "--target", "kind")
    assert (done.exit_code, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert said in done.stderr


ARFF = "@attribute a real\n@attribute kind {x,y}\n@data\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("@relation r\n@attribute a relational\n@attribute b real\n@end a\n@data\n'1',x\n", "attribute of a kind"),
        ("@relation r\n@attribute a real\n@attribute kind {x,y}\n@data\n% none\n{0 1.5, 1 x}\n", "sparse ARFF"),
        ("nonsense", "has no @data"),
        (ARFF + "1,x\n1,x,7\n", "line 5 has 3 values for 2 attributes"),
        (ARFF + "1,x\n2\n", "line 5 has 1 values for 2 attributes"),
        (ARFF + "1,z\n", "'kind' holds 'z', which is not among its declared values"),
        (ARFF + "one,x\n", "'a' is numeric, but not all of its values"),
        (ARFF + "1,'x'y\n", "line 4 cannot be read from 'y' on"),
        ("@attribute a {x,y\n@data\nx\n", "line 1 does not close the brace of 'a'"),
        ("@attribute\n@data\nx\n", "line 1 names no attribute"),
        ("@attribute a {" + ",".join(f"v{i}" for i in range(60)) + "\n@data\nx\n", "does not close the brace"),
    ],
)
def test_arff_of_another_kind_costs_one_sentence(tmp_path, body, said):
    done = run(write(tmp_path / "table.arff", body), "--target", "kind")
    assert done.exit_code == 2
    assert said in done.stderr
    assert "ARFF" in done.stderr or "attributes" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_wrong_place_for_the_report_is_refused_before_the_work(tmp_path):
    table = write(tmp_path / "table.csv", rows())
    for out, said in [
        (tmp_path / "absent" / "report.html", "there is no folder"),
        (tmp_path, "is a folder"),
        (table, "would overwrite"),
    ]:
        done = run(table, "--target", "kind", "--out", out)
        assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    done = run(table, "--target", "kind", "--out", "/proc/report.html")  # which not even root may write
    assert (done.exit_code, "cannot be written" in done.stderr) == (2, True), done.stderr
    assert table.read_text() == rows()


def test_unknown_backends_and_encodings_are_named(tmp_path):
    table = write(tmp_path / "table.csv", rows())
    assert "must name at least one of" in run(table, "--target", "kind", "--backends", ",").stderr
    assert run(table, "--target", "kind", "--time-limit", "nan").exit_code == 2
    assert "must be 0 or at least 3 seconds, got 2" in run(table, "--target", "kind", "--time-limit", "2").stderr
    with pytest.raises(ValueError, match="must be seconds from 0, got -1"):
        diagnose(load_table(table, "kind"), time_limit=-1)
    assert "got 'gmm'" in run(table, "--target", "kind", "--backends", "gmm").stderr
    assert "no encoding of that name" in run(table, "--target", "kind", "--encoding", "klingon").stderr
    assert (
        "choose another --encoding"
        in run(
            write(tmp_path / "latin.csv", rows(header="größe"), "latin-1"), "--target", "größe", "--encoding", "utf-8"
        ).stderr
    )


def said(path, target="kind", **options):
    table = load_table(path, target, **options)
    return table, " ".join(table.treatments)


def test_a_file_that_is_not_utf8_is_read_as_latin1_and_said(tmp_path):
    table, notes = said(write(tmp_path / "t.csv", rows(target=lambda i: ["größer", "kleiner"][i % 2]), "latin-1"))
    assert table.class_names == ("größer", "kleiner")
    assert "Latin-1" in notes


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-32-be"])
def test_byte_order_marks_are_read_and_wanted_only_where_no_encoding_is_named(tmp_path, encoding):
    options = {"encoding": encoding} if encoding.endswith("e") else {}  # which write no mark
    path = write(tmp_path / "t.csv", rows(), encoding)
    assert load_table(path, "kind", **options).column_names == ("a", "b")
    path.write_bytes(b"\0\0\0" + path.read_bytes())
    with pytest.raises(TableError, match="not a text file"):
        load_table(path, "kind", encoding="utf-8")


@pytest.mark.parametrize(("mark", "called"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_marks_and_decimal_commas_are_read_and_said(tmp_path, mark, called):
    table, notes = said(write(tmp_path / "t.csv", rows().replace(",", mark).replace(".", ",")))
    plain, _ = said(write(tmp_path / "p.csv", rows()))
    np.testing.assert_array_equal(table.x, plain.x)
    assert called in notes
    assert "decimal comma" in notes
    assert table.code == "load_table('t.csv', 'kind')"
    assert plain.code == "pd.read_csv('p.csv')"


@pytest.mark.parametrize("mark", [",", ";"])
def test_carriage_returns_alone_end_lines(tmp_path, mark):
    text = rows().replace("\n", "\r")
    table, _ = said(write(tmp_path / "t.csv", text.replace(",", mark)))
    plain, _ = said(write(tmp_path / "p.csv", rows()))
    np.testing.assert_array_equal(table.x, plain.x)
    assert table.n_rows_read == 30


def test_commas_between_thousands_are_not_decimal(tmp_path):
    lines = [f"{i * i % 7}\t{1000 + i:,}\t{i % 2}" for i in range(40)]
    table, notes = said(write(tmp_path / "t.tsv", "\n".join(["a\tb\tkind", *lines])))
    assert table.column_names == ("a",)
    assert "marks between their digits: write plain numbers: 'b'" in notes


def frame(n=60, **columns):
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=n), **columns, "kind": np.arange(n) % 2})


N = np.arange(60)
MENDED = {
    "text": ({"t": np.where(N % 3 == 0, "red", "blue")}, "one column per value, 1 or 0: 't'", 3),
    "categories": ({"t": pd.Categorical(np.where(N % 3 == 0, "red", "blue"))}, "one column per value", 3),
    "long text": ({"t": [f"text {i}" for i in N]}, "more than 20 different values: 't'", 1),
    "missing numbers": ({"m": np.where(N % 7 == 0, np.nan, N**1.5)}, "9 missing values replaced by the median", 2),
    "one value or none": ({"t": np.where(N % 5 < 3, "yes", "")}, "one column per value, 1 or 0: 't'", 3),
    "a flag or none": ({"t": np.where(N % 5 < 3, True, None)}, "one column per value, 1 or 0: 't'", 3),
    "missing text": ({"t": np.where(N % 7 == 0, None, np.where(N % 2, "u", "v"))}, "one column per value", 4),
    "mostly missing": ({"m": np.where(N % 7 == 0, N, np.nan)}, "more than half of the values are missing: 'm'", 1),
    "all missing": ({"m": np.full(60, np.nan)}, "more than half of the values are missing: 'm'", 1),
    "infinite": ({"m": np.where(N % 20 == 0, np.inf, N**1.5)}, "Infinite values count as missing: 'm'", 2),
    "constant": ({"c": np.ones(60)}, "because constant: 'c'", 1),
    "constant text": ({"c": ["same"] * 60}, "because constant: 'c'", 1),
    "dates": ({"d": pd.date_range("2020-01-01", periods=60)}, "because of dates or times", 1),
    "units": ({"u": [f"{i / 7:.2f} kg" for i in N]}, "numbers with units", 1),
    "thousands": ({"u": [f"{i * i + 1000:,}" for i in N]}, "marks between their digits", 1),
    "times as text": ({"d": pd.date_range("2020", periods=60).strftime("%Y-%m-%dT%H:%MZ")}, "because of dates", 1),
    "huge": ({"h": N**1.5 * 1e300}, "Divided by the largest value", 2),
    "tiny": ({"h": N**1.5 * 1e-300}, "Divided by the largest value", 2),
    "dates as text": ({"d": pd.date_range("2020-01-01", periods=60).astype(str)}, "because of dates or times", 1),
    "durations": ({"d": pd.to_timedelta(N, "h")}, "because of dates or times", 1),
    "words among numbers": ({"w": np.where(N % 20 == 0, "unknown", (N**1.5).astype(str))}, "such as 'unknown'", 2),
    "an index": ({"unnamed": N}, "counts the rows", 1),
    "lists": ({"t": [[f"word {i}"] for i in N]}, "more than 20 different values", 1),
    "repeated rows": ({"a": N % 5}, "Repeated elsewhere in the table: 55 rows", 1),
    "torn rows": ({"a": N % 5}, "The same as a row of another class: 60 rows", 1),
}


@pytest.mark.parametrize(("columns", "note", "n_columns"), MENDED.values(), ids=MENDED)
def test_what_can_be_mended_is_mended_and_said(columns, note, n_columns):
    table = prepare_table(frame(**columns), "kind")
    assert note in " ".join(table.treatments)
    assert table.x.shape == (60, n_columns)
    assert bool(table.x.isfinite().all())


KINDS = np.array(["p", "q", "r"])
GIVEAWAYS = {
    "the class as a number": ({"c": N % 3 * 4.0}, "Equals the class under other names: 'c'."),
    "the class as text": ({"c": np.array(["u", "v", "w"])[N % 3]}, "Equals the class under other names: 'c'."),
    "a number by class": ({"c": N % 3 * 100 + N // 3}, "Rises with the class, as a number given row by row does: 'c'."),
    "a number by class in runs": ({"c": N % 6 * 100 + N // 3}, "Rises with the class, as a number"),
    "intervals": ({"c": N % 3 + N / 100}, "Tells all classes apart alone: 'c'."),
    "text of one class each": ({"c": np.array(list("uvwxyz"))[N % 6]}, "Tells all classes apart alone: 'c'."),
    "noise": ({"c": N * 37 % 61 / 7}, ""),
    "a number by row in another order": ({"c": N * 37 % 61}, ""),
    "all but one": ({"c": np.where(N == 7, 0, N % 3 + N / 100)}, ""),
}


@pytest.mark.parametrize(("columns", "sentence"), GIVEAWAYS.values(), ids=GIVEAWAYS)
def test_columns_that_give_the_class_away_are_named(columns, sentence):
    table = prepare_table(frame(**columns).assign(kind=KINDS[N % 3]), "kind")
    assert len(table.giveaways) == bool(sentence)
    assert "".join(table.giveaways).startswith(sentence)
    by_hand = LabeledTable(table.x, table.target, column_names=table.column_names, cardinality=table.cardinality)
    assert by_hand.giveaways == tuple(table.giveaways)


@pytest.mark.slow
def test_columns_that_give_the_class_away_come_first_on_screen_page_and_json(tmp_path):
    frame(copy=N % 2 * 3).to_csv(tmp_path / "t.csv", index=False)
    options = ["--target", "kind", "--backends", "gm", "--time-limit", 0]
    done = run(tmp_path / "t.csv", *options, "--out", tmp_path / "t.html")
    assert done.stdout.splitlines()[1].startswith(
        "The class is given away. Equals the class under other names: 'copy'."
    )
    page = (tmp_path / "t.html").read_text()
    assert 0 < page.index('id="giveaways"') < page.index('id="verdict"')
    assert json.loads(run(tmp_path / "t.csv", *options, "--json").stdout)["giveaways"][0].startswith("Equals the class")


def test_boolean_columns_are_numbers_and_need_no_word():
    table = prepare_table(frame(flag=N % 3 == 0), "kind")
    np.testing.assert_array_equal(table.x[:, 1], N % 3 == 0)
    assert not table.treatments


def test_a_class_with_few_rows_is_left_out_with_them():
    table = prepare_table(frame().assign(kind=["rare"] + ["x", "y"] * 29 + ["y"]), "kind")
    assert table.class_names == ("x", "y")
    assert len(table.x) == 59
    assert "Class 'rare' left out with its 1 row" in table.treatments[0]


def test_rows_without_a_class_are_left_out_and_words_for_it_may_name_one(tmp_path):
    text = rows(40, target=lambda i: ["None", "apnea", ""][i % 3])
    table, notes = said(write(tmp_path / "t.csv", text))
    assert table.class_names == ("None", "apnea")
    assert "13 rows without a value of 'kind' left out" in notes
    assert "though it may stand for none: 'None'" in notes
    table, notes = said(write(tmp_path / "t.csv", rows(40, target=lambda i: ["x", "y", "?"][i % 3])))
    assert table.class_names == ("x", "y")


def test_spaces_around_a_name_do_not_matter(tmp_path):
    table, _ = said(write(tmp_path / "t.csv", rows(header=" kind ")), target="kind ")
    assert table.column_names == ("a", "b")
    assert table.code == "load_table('t.csv', 'kind')"  # pandas would keep the spaces


def test_bytes_of_parquet_are_text(tmp_path):
    frame(t=[b"u", b"\xff"] * 30).to_parquet(tmp_path / "t.parquet")
    assert load_table(tmp_path / "t.parquet", "kind").column_names == ("a", "t=\\xff", "t=u")


def test_declared_levels_are_levels(tmp_path):
    levels = ["NA", "None", "?", "1"]
    declared = frame(
        level=pd.Categorical(np.array(levels)[N // 2 % 4]), few=pd.Categorical(np.where(N % 5 < 3, "NA", "x"))
    )
    declared.loc[7, "level"] = None
    declared.to_parquet(tmp_path / "t.parquet")
    for table in (prepare_table(declared, "kind"), load_table(tmp_path / "t.parquet", "kind")):
        expected = ("a", "level=(missing)", "level=1", "level=?", "level=NA", "level=None", "few=NA", "few=x")
        assert table.column_names == expected
        assert list(table.cardinality) == [5, 2]
        assert table.x[:, 1:].sum(0).tolist() == [1, 13, 14, 16, 16, 36, 24]
    table = load_table(tmp_path / "t.parquet", "level")
    assert (table.class_names, table.counts.tolist()) == (("1", "?", "NA", "None"), [13, 14, 16, 16])
    assert "may stand for none" not in " ".join(table.treatments)


def test_what_weka_writes_in_arff_is_read(tmp_path):
    head = r"""% a comment
@RELATION 'a table'
@attribute	'it\'s long'	REAL
@attribute x integer
@attribute x {1, 2, 3, 4} % repeated
@attribute level{ NA , 'two words', "it's", '?' }
@attribute day date "yyyy-MM-dd HH:mm"
@attribute note string
@attribute kind { 'it\'s' , b,'50% \u00e9' }

@data
% rows
"""
    kinds, levels = [r"'it\'s'", "b", r"'50% \u00e9'"], ["NA", '"two words"', r"'it\'s'", "'?'"]
    lines = [
        f"{i / 7}, {i * i},{i % 4 + 1},{levels[i // 2 % 4]},'2020-01-0{i % 9 + 1} 10:00',NULL,{kinds[i % 3]}"
        f"{', {5}' * (i > 57)}"
        for i in range(60)
    ]
    path = write(tmp_path / "t.arff", head + "\r\n".join([*lines, "?,?,?,?,?,?,? % none"]))
    table, notes = said(path)
    assert table.class_names == ("50% é", "b", "it's")
    assert [table.class_names[c] for c in table.target[:3]] == ["it's", "b", "50% é"]
    assert table.column_names == (
        *("it's long", "x", "x (2)=1", "x (2)=2", "x (2)=3", "x (2)=4"),
        *("level=?", "level=NA", "level=it's", "level=two words"),
    )
    np.testing.assert_allclose(table.x[:, 0], N / 7, rtol=1e-15)
    np.testing.assert_array_equal(table.x[:, 1], N * N)
    np.testing.assert_array_equal(table.x[:, 2:6], np.eye(4)[N % 4])
    np.testing.assert_array_equal(table.x[:, 6:], np.eye(4)[np.array([1, 3, 2, 0])[N // 2 % 4]])
    for note in ("Weights of rows are not used: 2", "1 row without", "dates or times", "'day'", "missing: 'note'"):
        assert note in notes


def test_arff_is_read_between_blanks_too(tmp_path):
    lines = [f"{i * i} {'xy'[i % 2]}" for i in range(30)]
    table = load_table(write(tmp_path / "t.arff", ARFF.replace(",", " ") + "\n".join(lines)), "kind")
    assert (table.class_names, table.counts.tolist()) == (("x", "y"), [15, 15])
    assert table.x[:, 0].tolist() == [i * i for i in range(30)]


def test_columns_of_parquet_that_pandas_cannot_hold_are_left_out_by_name(tmp_path):
    columns = frame(time=N * 3_601 * 10**9 + 1, big=N).to_dict("list")
    table = polars.DataFrame(columns).with_columns(polars.col("time").mod(86_400 * 10**9).cast(polars.Time))
    table.write_parquet(tmp_path / "time.parquet")
    table.with_columns(polars.col("big").cast(polars.Int128)).write_parquet(tmp_path / "both.parquet")
    table, notes = said(tmp_path / "time.parquet")
    assert table.column_names == ("a",)
    assert "Left out because pandas cannot hold its values (Value 1 has non-zero nanoseconds): 'time'." in notes
    table, notes = said(tmp_path / "both.parquet")
    assert table.column_names == ("a",)
    assert "pandas cannot hold its values (128 bits each): 'big'." in notes
    with pytest.raises(TableError, match="the target column 'big' cannot be read: pandas cannot hold"):
        load_table(tmp_path / "both.parquet", "big")


def test_repeated_names_and_whole_numbers_of_parquet_are_as_in_the_file(tmp_path):
    a, kinds = frame()["a"].to_numpy(), [2**53, 2**53 + 1, None]
    table = pyarrow.table([a, a**2, pyarrow.array(kinds * 20)], names=["a", "a", "kind"])
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    table, notes = said(tmp_path / "t.parquet")
    assert table.column_names == ("a", "a (2)")
    np.testing.assert_array_equal(table.x[:, 1], table.x[:, 0] ** 2)
    assert table.class_names == ("9007199254740992", "9007199254740993")
    assert "stands above 2 columns" in notes


def test_an_unnamed_index_of_parquet_is_none(tmp_path):
    frame().sample(frac=1, random_state=0).to_parquet(tmp_path / "t.parquet")
    assert load_table(tmp_path / "t.parquet", "kind").column_names == ("a",)


@pytest.mark.filterwarnings("error", "ignore:The 'future.infer_string'")
@pytest.mark.parametrize("strings_of_their_own", [False, True])
def test_text_is_text_whatever_type_pandas_gives_it(tmp_path, strings_of_their_own):
    """Objects to pandas 2, a type of their own to pandas 3."""
    text = frame(t=np.where(N % 7 == 0, None, np.where(N % 2, "u", "v")))
    text.to_csv(tmp_path / "t.csv", sep=";", index=False)
    text.to_parquet(tmp_path / "t.parquet")
    with pd.option_context("future.infer_string", strings_of_their_own):
        for name in ("t.csv", "t.parquet"):
            table = load_table(tmp_path / name, "kind")
            assert table.column_names == ("a", "t=(missing)", "t=u", "t=v")
            assert load_table(tmp_path / name, "t").class_names == ("u", "v")


def test_a_named_index_of_parquet_is_a_column(tmp_path):
    frame().set_index("a").to_parquet(tmp_path / "t.parquet")
    table, notes = said(tmp_path / "t.parquet")
    assert table.column_names == ("a",)
    assert "Taken from the index: 'a'" in notes


def test_repeated_names_are_numbered(tmp_path):
    table, notes = said(write(tmp_path / "t.csv", rows(columns="a,a")))
    assert table.column_names == ("a", "a (2)")
    assert "stands above 2 columns" in notes
    table, notes = said(write(tmp_path / "u.csv", rows(columns="a,a,a (2),kind (2)")))
    assert table.column_names == ("a", "a (3)", "a (2)", "kind (2)")
    assert "the later ones are called 'a (3)'." in notes


def test_missing_flags_and_unused_categories_leave_the_names_of_classes_alone():
    assert prepare_table(frame().assign(kind=[True, False, None] * 20), "kind").class_names == ("False", "True")
    kind = pd.Categorical(["x", "y"] * 30, categories=["y", "x", "unused"])
    table = prepare_table(frame().assign(kind=kind), "kind")
    assert (table.class_names, table.treatments) == (("x", "y"), ())


def test_numbers_name_classes_in_their_order():
    table = prepare_table(frame().assign(kind=np.array([10, 9, 2])[N % 3] + 0.0), "kind")
    assert table.class_names == ("2", "9", "10")
    assert table.target[:3].tolist() == [2, 1, 0]


CLASSES = {
    "zeros in front": (
        ["0012", "012", "12"],
        "that are the same number and are kept apart: '0012' and '012' and '12'.",
    ),
    "a decimal place": (["1", "1.0", "2"], "that are the same number and are kept apart: '1' and '1.0'."),
    "beyond a double": ([str(2**53), str(2**53 + 1), str(2**53 + 3)], ""),
    "an exponent beside a word": (["1e1", "10", "ten"], "that are the same number and are kept apart: '10' and '1e1'."),
    "letters alike": (["True", "TRUE", "true"], ""),
}


@pytest.mark.parametrize("gap", ["", "0.1,0.2,\n", "0.1,0.2,?\n"], ids=["whole", "gap", "mark"])
@pytest.mark.parametrize(("names", "note"), CLASSES.values(), ids=CLASSES)
def test_classes_are_the_text_in_the_file(tmp_path, names, note, gap):
    table, notes = said(write(tmp_path / "t.csv", rows(60, target=lambda i: names[i % 3]) + gap))
    assert sorted(table.class_names) == sorted(names)
    assert [table.class_names[c] for c in table.target[:3]] == names
    assert notes == " ".join(
        filter(None, [gap and "1 row without a value of 'kind' left out.", note and f"Classes of 'kind' {note}"])
    )


@pytest.mark.parametrize("dtype", ["int64", "Int64", "float64", "Float64", "category", object])
def test_numbers_of_a_frame_are_classes_to_the_last_digit(dtype):
    numbers = [1, 2, 3] if "loat" in str(dtype) else [2**53, 2**53 + 1, 2**53 + 3]
    kind = pd.Series(numbers * 20, dtype="Int64" if dtype == "Int64" else None)
    if dtype != "int64":
        kind[59] = None if dtype == "Int64" else kind[59]
    table = prepare_table(frame().assign(kind=kind.astype(dtype)), "kind")
    assert table.class_names == tuple(map(str, numbers))


def test_blanks_around_a_class_are_no_part_of_it_and_that_is_said():
    table = prepare_table(frame().assign(kind=["x", "y", " x"] * 20), "kind")
    assert table.counts.tolist() == [40, 20]
    assert "that differ in blanks around them alone and are one: ' x' and 'x'." in table.treatments[0]


def test_a_target_of_lists_or_dates_is_refused():
    for kind, said in [([[i] for i in N], "holds lists"), (pd.date_range("2020", periods=60), "holds dates")]:
        with pytest.raises(TableError, match=said):
            prepare_table(frame().assign(kind=kind), "kind")


@pytest.mark.slow
def test_a_million_rows_are_sampled_class_by_class(tmp_path):
    lines = [f"{i * i % 7919},{i * 31 % 1009},{'rare' if i % 50_000 == 0 else 'xy'[i % 2]}\n" for i in range(10_000)]
    path = tmp_path / "t.csv"
    path.write_text("a,b,kind\n" + "".join(lines) * 100)
    table, notes = said(path)
    assert (len(table.x), table.n_rows_read) == (5010, 1_000_000)
    assert table.counts.tolist() == [10, 2500, 2500]
    assert "of 1,000,000 were drawn" in notes


@pytest.mark.slow
def test_ten_thousand_columns_become_components(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (120, 10_000)) + (np.arange(120) % 2 * 3)[:, None]
    path = tmp_path / "t.csv"
    header = ",".join([*(f"c{d}" for d in range(10_000)), "kind"])
    path.write_text("\n".join([header, *(",".join(map(str, [*row, i % 2])) for i, row in enumerate(x.tolist()))]))
    table, notes = said(path)
    assert table.x.shape == (120, 50)
    assert "The 10,000 columns were standardized and replaced by their first 50 principal components" in notes
    assert "(over all rows, those held out included)" in notes
