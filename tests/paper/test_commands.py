"""Each command on a tiny set, by the real code path; records that survive a kill; one sentence for what is no good."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from genlabel_plugins.cli._app import app
from genlabel_plugins.paper import ORDER, tables
from genlabel_plugins.paper.commands import COMMANDS, Options
from genlabel_plugins.paper.data import code, split
from genlabel_plugins.paper.networks import Training, fit_network
from genlabel_plugins.paper.records import Job, Records, summarize
from genlabel_plugins.paper.robustness import robust_accuracy
from genlabel_plugins.paper.runs import balanced_sets
from genlabel_plugins.paper.statistics import elo

RUNNER = CliRunner()


def run(*arguments):
    return RUNNER.invoke(app, ["paper", *map(str, arguments)])


@pytest.fixture(scope="session")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


def test_list_names_every_table_and_figure():
    shown = run("list").stdout
    for name in (*(f"table{i}" for i in range(1, 10)), *(f"fig{i}" for i in range(1, 8)), "examples", "theorem"):
        assert re.search(rf"^{name} ", shown, re.MULTILINE), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDER)
def test_each_command_runs(name, data, out):
    done = run(name, "--quick", "--data", data, "--out", out, "--sets", "1413")
    assert done.exit_code == 0, done.stderr or done.exception
    assert f"## {name}:" in done.stdout
    if COMMANDS[name].draw is not None:
        assert (out / "figures" / f"paper_{name}.png").stat().st_size > 1000
    elif name not in ("examples", "theorem"):
        assert re.search(r"\d\.\d", done.stdout)


@pytest.mark.slow
def test_the_page_says_what_ran_and_what_did_not(data, out):
    run("table8", "--quick", "--data", data, "--out", out, "--sets", "1413")
    page = (out / "paper.md").read_text()
    assert all(f"## {name}:" in page for name in ORDER)
    row = next(line for line in page.splitlines() if line.startswith("| CutMix | "))
    assert "(94.67)" in row
    assert "no run (96.30)" in row
    stored = pd.read_csv(out / "paper.csv", dtype={"set": str})
    assert {"1413"} <= set(stored.set)
    (out / "quick.jsonl").rename(out / "moved.jsonl")
    assert run("page", "--quick", "--out", out).exit_code == 0
    assert (out / "paper.md").read_text() == page  # from the CSV alone
    (out / "moved.jsonl").rename(out / "quick.jsonl")


@pytest.mark.slow
def test_a_rerun_continues_after_a_torn_line(data, tmp_path):
    options = ["--quick", "--data", data, "--out", tmp_path, "--sets", "1413"]
    assert run("table9", *options).exit_code == 0
    path = tmp_path / "quick.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])  # as kill -9 leaves it
    before = path.stat().st_size
    assert run("table9", *options).exit_code == 0
    again = path.read_text()[before:].splitlines()
    assert [json.loads(line)["scheme"] for line in again if line] == [json.loads(lines[-1])["scheme"]]
    records = Records(path)
    assert len(records.found) == len(lines)
    assert records.missing([Job("logistic regression, alpha 1", "1413", 0, ("mixup", "other"))])[0].schemes == (
        "other",
    )


@pytest.mark.slow
def test_processes_find_what_one_finds(data, tmp_path):
    found = []
    for jobs in (1, 2):
        done = run("table9", "--quick", "--data", data, "--out", tmp_path / str(jobs), "--sets", "1413", "--jobs", jobs)
        assert done.exit_code == 0
        frame = Records(tmp_path / str(jobs) / "quick.jsonl").frame().drop(columns="seconds")
        found.append(frame.sort_values("scheme").reset_index(drop=True))
    pd.testing.assert_frame_equal(*found)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table10"], "name must be one of"),
        (["table8", "--data", "/nowhere"], "'/nowhere' is no folder"),
        (["table8", "--sets", "iris"], "OpenML ids such as 187,1413, got 'iris'"),
        (["table8", "--sets", "18"], "table8 has no set among [18]"),
    ],
)
def test_what_is_no_good_costs_one_sentence(arguments, said, tmp_path):
    done = run(*arguments, "--out", tmp_path)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_set_that_the_folder_lacks_is_named(data, tmp_path):
    done = run("table8", "--data", data, "--sets", "945", "--out", tmp_path)
    assert done.exit_code == 2
    assert "set 945 is not in --data" in done.stderr


@pytest.mark.slow
def test_no_network_and_no_data_is_one_sentence(tmp_path):
    closed = {
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "SCIKIT_LEARN_DATA": str(tmp_path),
    }
    command = [sys.executable, "-m", "genlabel_plugins.cli", "paper", "table8", "--sets", "187", "--quick"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "out"], env=os.environ | closed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "set 187 can neither be fetched from OpenML" in done.stderr
    assert "Traceback" not in done.stderr


def test_tables_of_openml_become_numbers():
    frame = pd.DataFrame(
        {
            "size": [1.0, 2.0, 3.0, np.nan],
            "sex": pd.Categorical(["f", "m", "f", "m"]),
            "color": ["red", "green", "blue", "red"],
            "name": pd.Categorical(["a"] * 4, categories=list("ab")),
        }
    )
    x, y = code(frame, pd.Series(pd.Categorical(["no", "yes", "no", "no"])))
    assert x.tolist() == [[1, 0, 0, 0, 1, 0], [2, 1, 0, 1, 0, 0], [3, 0, 1, 0, 0, 0]]
    assert y.tolist() == [0, 1, 0]
    many = pd.DataFrame({"id": [f"row {i}" for i in range(13)], "x": range(13)})
    assert code(many, pd.Series(["a", "b"] * 6 + ["a"]))[0].shape == (13, 1)


def test_the_thirteen_balanced_sets():
    assert len(balanced_sets()) == 13
    assert set(balanced_sets()) >= {446, 468, 683, 755, 763, 1413}  # those of Table 7


def test_the_boundary_attack_works():
    generator = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = np.stack([np.where(y, 1.0, -1.0), generator.uniform(-1, 1, 200)], 1) + generator.normal(0, 0.1, (200, 2))
    rows = split(x, y.astype(np.int64), 0)
    fitted = fit_network(rows, "vanilla", Training(hidden=(), learning_rates=(0.1,), epochs=50), seed=0)
    found = robust_accuracy(fitted, rows, steps=300, seed=0, n_rows=20)
    assert found["clean"] == 1.0
    assert found["worst_of_two"] <= found["robust"] <= found["fewer_steps"] <= found["clean"]
    # Rows lie about 1 from the boundary, the radius is a tenth of about 2.5: all stay; ten times it leaves none.
    assert found["robust"] > 0.9
    rows = rows._replace(x=rows.x * 1.0, x_test=np.clip(rows.x_test * [0.05, 1.0], -1.2, 1.2))  # near the boundary now
    assert robust_accuracy(fitted, rows, steps=300, seed=0, n_rows=20)["robust"] < 0.2
    # In float32 rows at a bound of -0.3 lie below it, where the attack refuses them.
    rows = rows._replace(x=np.clip(rows.x, -0.3, 0.3))
    assert robust_accuracy(fitted, rows, steps=10, seed=0, n_rows=20)["clean"] > 0.5


def test_standings_set_real_and_artificial_sets_apart():
    generator = np.random.default_rng(0)
    head = {"experiment": tables.LR, "seed": 0}
    records = [
        head | {"set": name, "scheme": scheme, "accuracy": accuracy, "log_loss": 1 - accuracy}
        for name in ("48", "187", "1413", "721", "726", "730")  # three real ones, three artificial
        for scheme, best in (("mixup", 0.0), ("ours", 0.1), ("RandomForest", 0.05))
        for accuracy in (0.5 + best + 0.01 * generator.random(),)
    ]
    text = "\n".join(tables.standings(summarize(pd.DataFrame(records)), tables.LR))
    real, artificial = text.split("**Artificial sets** (3)")
    assert "**Real sets** (3)" in real
    for part in (real, artificial):
        ours = next(line for line in part.splitlines() if line.startswith("| ours "))
        assert " 1.00 | 1.00 |" in ours  # ranks
    alone = summarize(pd.DataFrame([record for record in records if record["set"] == "48"]))
    assert "No runs of two sets or more." in tables.standings(alone, tables.LR)


def test_elo_ranks_by_wins_and_is_repeatable():
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.random((30, 3)) + np.array([0.0, 0.3, 0.6]), columns=list("abc"))
    table.index.name, table.columns.name = "set", "scheme"
    first, second = elo(table, "a"), elo(table, "a")
    pd.testing.assert_frame_equal(first, second)
    assert first.elo["a"] == 1000
    assert first.elo["a"] < first.elo["b"] < first.elo["c"]


def test_quick_runs_have_records_of_their_own(tmp_path):
    options = Options(out=tmp_path, quick=True)
    assert options.attack != Options(out=tmp_path).attack
    assert len(options.seed_range) == 1
    assert Options(seeds=3).choose([40984, 36]) == ["36"]  # one set under two ids
