"""Files of every format, and the code to copy that reads them again."""

import gzip

import numpy as np
import pytest

from genlabel_plugins.diagnostics import Recommendation, Setting, load_table, prepare_table
from genlabel_plugins.diagnostics.report._snippets import snippets

ONE_VALUE, ONE_FLAG = (np.where(np.arange(150) % 5 < 3, value, none) for value, none in [("yes", ""), (True, None)])


def write_csv(frame, path):
    frame.to_csv(path, index=False)


def write_plain(frame, path):
    path.write_text(frame.to_csv(index=False))  # to_csv itself packs what the name asks for


def write_gzip(frame, path):
    path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))


def write_arff(frame, path):
    lines = ["@relation iris", *(f"@attribute '{name}' numeric" for name in frame.columns[:-1])]
    classes = ",".join(sorted(frame["target"].unique()))
    text = frame.to_csv(index=False, header=False)
    path.write_text("\n".join([*lines, f"@attribute target {{{classes}}}", "@data", text]))


WRITERS = {
    "iris.csv": write_csv,
    "iris.csv.gz": write_gzip,
    "iris.parquet": lambda frame, path: frame.to_parquet(path),
    "iris.arff": write_arff,
}


@pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)
def test_every_format_gives_the_same_table(tmp_path, iris, name, write):
    write(iris, tmp_path / name)
    table = load_table(tmp_path / name, "target")
    expected = prepare_table(iris, "target")
    assert table.x.sub(expected.x).abs().max() < 1e-12
    assert table.target.equal(expected.target)
    assert (table.class_names, table.column_names) == (expected.class_names, expected.column_names)
    assert table.treatments == expected.treatments


def advice(scheme):
    setting = {
        "none": Setting("none", None, None, False),
        "mixup": Setting("mixup", None, None, False),
        "genlabel": Setting("genlabel", "kde", 0.6, True),
    }[scheme]
    return Recommendation("", setting, 0.1, 0.9, "", (), ())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_letters_beyond_ascii_in_arff_are_read(tmp_path):
    lines = [f"{i % 7},{['größer', 'kleiner'][i % 2]}" for i in range(30)]
    head = "@relation r\n@attribute länge numeric\n@attribute kind {größer,kleiner}\n@data\n"
    (tmp_path / "t.arff").write_text(head + "\n".join(lines), encoding="utf-8")
    table = load_table(tmp_path / "t.arff", "kind")
    assert (table.class_names, table.column_names) == (("größer", "kleiner"), ("länge",))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["none", "mixup", "genlabel"])
@pytest.mark.parametrize("name", WRITERS)
def test_the_code_to_copy_runs(folder, iris, capsys, scheme, name):
    frame = iris.assign(**{"it's": ["u", "v"] * 75, "text": [f"t{i}" for i in range(150)]})
    frame = frame[[*frame.columns.drop("target"), "target"]]
    if name == "iris.arff":
        frame = iris
    WRITERS[name](frame, folder / name)
    sklearn, tabular, plain = snippets(load_table(name, "target"), advice(scheme))
    state = {}
    exec(compile(sklearn.code, "sklearn", "exec"), state)
    assert float(capsys.readouterr().out) > 0.85
    exec(compile(plain.code, "torch", "exec"), state)
    assert (state["model"](state["x"]).argmax(1) == state["target"]).float().mean() > 0.85
    compile(tabular.code, "pytorch-tabular", "exec")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("one value or none.csv", lambda frame, path: write_csv(frame.assign(t=ONE_VALUE), path)),
        ("one flag or none.parquet", lambda frame, path: frame.assign(t=ONE_FLAG).to_parquet(path)),
        ("packed.csv", write_gzip),
        ("packed.tar.gz", write_gzip),
        ("plain.csv.gz", write_plain),
        ("plain.xz", write_plain),
    ],
)
def test_the_code_to_copy_runs_where_pandas_alone_would_not_do(folder, iris, capsys, name, write):
    write(iris, folder / name)
    table = load_table(name, "target")
    assert table.code == f"load_table({name!r}, 'target')"
    sklearn, _, plain = snippets(table, advice("genlabel"))
    exec(compile(sklearn.code, "sklearn", "exec"), {})
    assert float(capsys.readouterr().out) > 0.85
    exec(compile(plain.code, "torch", "exec"), {})


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["none", "genlabel"])
def test_the_code_to_copy_for_pytorch_tabular_runs(folder, iris, scheme):
    iris.assign(it=["u", "v"] * 75).to_csv(folder / "iris.csv", index=False)
    code = snippets(load_table("iris.csv", "target"), advice(scheme))[1].code
    code = code.replace("max_epochs=50", "max_epochs=2, accelerator='cpu', progress_bar='none'")
    state = {}
    exec(compile(code, "pytorch-tabular", "exec"), state)
    assert len(state["model"].predict(state["features"])) == 150
