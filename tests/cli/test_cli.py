"""The command line on real tables, its report and its JSON."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

import genlabel_plugins
from genlabel_plugins import list_backends, register_backend, unregister_backend
from genlabel_plugins.cli._app import app
from genlabel_plugins.cli._progress import Watch
from genlabel_plugins.cli.main import main
from genlabel_plugins.diagnostics import Report, diagnose, load_table, prepare_table, to_json
from genlabel_plugins.diagnostics.questions.diagnosis import plan

RUNNER = CliRunner()
QUICK = ["--backends", "gm", "--time-limit", "0"]


def run(*arguments):
    return RUNNER.invoke(app, list(map(str, arguments)))


def test_version():
    assert run("--version").stdout == f"genlabel {genlabel_plugins.__version__}\n"


def test_backends_are_listed_with_a_line_each():
    listed = {line["name"]: line for line in json.loads(run("backends", "--json").stdout)}
    assert listed.keys() >= {"gm", "kde", "nn", "flow", "gan", "vae", "mixed_types"}
    assert all(len(line["description"]) > 10 for name, line in listed.items() if line["package"] == "genlabel_plugins")
    assert listed["gm"]["status"] == "ready"
    text = run("backends").stdout
    assert all(name in text for name in list_backends())


def test_a_backend_that_cannot_be_made_is_listed_with_the_reason():
    @register_backend("elsewhere")
    def elsewhere():
        raise ImportError("elsewhere is not installed")

    try:
        listed = {line["name"]: line for line in json.loads(run("backends", "--json").stdout)}
    finally:
        unregister_backend("elsewhere")
    assert listed["elsewhere"]["status"] == "cannot be loaded: elsewhere is not installed"


@pytest.fixture(scope="module")
def printed(tmp_path_factory, wine):
    """What one run prints, and the report that it writes."""
    folder = tmp_path_factory.mktemp("wine")
    wine.to_csv(folder / "wine.csv", index=False)
    out = folder / "report.html"
    arguments = [folder / "wine.csv", "--target", "target", "--out", out, "--backends", "gm,kde,nn"]
    return run("diagnose", *arguments, "--time-limit", "10000"), out


@pytest.mark.slow
def test_a_run_prints_every_part_and_writes_the_report(printed):
    done, out = printed
    assert done.exit_code == 0, done.stderr
    for part in ("178 rows", "grignolino", "Intrusion", "Do the densities fit?", "+ clean batch", "Recommendation"):
        assert part in done.stdout, part
    assert f"Report: {out}" in done.stdout
    page = out.read_text(encoding="utf-8")
    for part in ("verdict", "classes", "intrusion", "comparison", "fits", "projection", "snippets", "treatments"):
        assert f'id="{part}"' in page, part
    assert page.count("<svg") == 3 + 1 + 3
    assert "Not in this report" not in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page.replace("xlink:", ""))
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_json_holds_the_same_numbers(tmp_path, wine):
    wine.to_csv(tmp_path / "wine.csv", index=False)
    done = run("diagnose", tmp_path / "wine.csv", "--target", "target", "--json", *QUICK)
    known = json.loads(done.stdout)
    assert known["complete"]
    assert known["classes"] == {"barbera": 48, "barolo": 59, "grignolino": 71}
    direct = diagnose(load_table(tmp_path / "wine.csv", "target"), backends=["gm"], time_limit=0)
    assert known["backends"]["gm"]["accuracy"] == direct.fits["gm"].accuracy
    assert known["recommendation"]["verdict"] == direct.recommendation.verdict
    assert len(known["comparison"]["settings"]) == 23
    assert known["intrusion"]["overall"] == float(direct.intrusion.overall)


@pytest.mark.slow
def test_a_terminal_gets_what_it_can_show(tmp_path, iris):
    iris.assign(target=iris["target"].str.replace("s", "\x1b[2J[/]é", n=1)).to_csv(tmp_path / "iris.csv", index=False)
    command = [sys.executable, "-c", "from genlabel_plugins.cli import main; main()", "diagnose", "iris.csv"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "40", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--target", "target", *QUICK], capture_output=True, check=False, env=environment, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("ascii")
    assert "\x1b" not in text
    assert "?[2J[/]?etosa" in text
    assert "mislea?" not in text  # narrow columns are folded, not cut


@pytest.mark.slow
def test_names_from_the_file_are_text_and_never_markup(moons):
    table = prepare_table(moons, "moon", name="<script>alert(1)</script>.csv")
    page = Report().render(diagnose(table, backends=["gm"], time_limit=0))
    assert "<script" not in page
    assert "&lt;b&gt;upper&lt;/b&gt; &amp; co" in page
    assert not re.search(r"<(b|i)>(upper|across)", page)


@pytest.mark.slow
def test_many_classes_and_long_names_have_a_report_too():
    rng = np.random.default_rng(0)
    kinds = np.repeat([f"kind {c:02} " + "of a very long name " * 9 for c in range(12)], 20)
    frame = pd.DataFrame(rng.normal(size=(240, 3)), columns=["a", "b", "c" * 500]).assign(kind=kinds)
    known = diagnose(prepare_table(frame, "kind"), backends=["gm"], time_limit=0)
    page = Report().render(known)
    assert "2 smaller classes" in page
    assert "The 12 worst of 78 pairs" in page
    assert len(json.loads(to_json(known))["intrusion"]["pairs"]) == 78


@pytest.mark.slow
def test_text_columns_are_scored_by_the_density_of_mixed_types(wine):
    frame = wine[["alcohol", "hue", "target"]].assign(dark=(wine["color_intensity"] > 5).map({True: "y", False: "n"}))
    known = diagnose(prepare_table(frame, "target"), backends=["gm", "mixed_types"], time_limit=0)
    assert known.fits["mixed_types"].accuracy > 0.8
    numeric = diagnose(prepare_table(wine, "target"), backends=["mixed_types"], time_limit=0)
    assert "for text columns" in numeric.skipped["backend mixed_types"]


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_a_missing_extra_costs_one_sentence(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    loaded = [name for name in sys.modules if name.startswith(("genlabel_plugins.cli.", f"{module}."))]
    for name in loaded:
        if name != "genlabel_plugins.cli.main":
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == f"genlabel needs {module}: pip install 'genlabel-plugins[cli]'"


@pytest.mark.parametrize("module", ["pandas", "jinja2", "matplotlib", "pyarrow"])
def test_a_missing_part_of_the_extra_costs_one_sentence(monkeypatch, tmp_path, iris, module):
    path = tmp_path / "iris.parquet"
    iris.to_parquet(path)
    monkeypatch.setitem(sys.modules, module, None)
    if module == "pyarrow":
        monkeypatch.setattr("pandas.read_parquet", lambda _: (_ for _ in ()).throw(ImportError("pyarrow")))
    done = run("diagnose", path, "--target", "target", "--out", tmp_path / "report.html", *QUICK)
    assert done.exit_code == 2
    assert "pip install 'genlabel-plugins[cli]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_library_alone_needs_no_extra():
    hidden = ("typer", "rich", "pandas", "matplotlib", "jinja2", "pyarrow")
    code = (  # a module set to None would be absent here, but there for scikit-learn, which looks into sys.modules
        "import sys\nclass Absent:\n  def find_spec(self, name, path=None, target=None):\n"
        f"    if name.partition('.')[0] in {hidden}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import torch, genlabel_plugins\nfrom genlabel_plugins.diagnostics import LabeledTable, diagnose, to_json\n"
        "x, target = torch.randn(40, 3), torch.arange(40) % 2\n"
        "print(diagnose(LabeledTable(x, target), backends=['gm'], time_limit=0).recommendation is not None)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.slow
def test_a_bar_names_each_step_on_a_terminal_and_is_silent_elsewhere(wine):
    shown = []
    for is_terminal in (True, False):
        screen = io.StringIO()
        with Watch(Console(file=screen, force_terminal=is_terminal, width=100)) as watch:

            def on_step(known, watch=watch):
                watch.show(known)
                watch._progress.refresh()

            limit = 300 if is_terminal else 0  # a step that there is no time for is not named
            diagnose(prepare_table(wine, "target"), backends=["gm"], time_limit=limit, on_step=on_step)
        shown.append(screen.getvalue())
    titles = [step.title for step in plan(["gm"])]
    places = [shown[0].index(f"{done}/{len(titles)}") for done in range(len(titles) + 1)]
    assert places == sorted(places)
    assert all(title in shown[0] for title in titles)
    assert not shown[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_a_readable_report(tmp_path, wine, kind):
    wine.to_csv(tmp_path / "wine.csv", index=False)
    out = tmp_path / "report.html"
    # A shell makes what it runs in the background deaf to SIGINT, and its children inherit that.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from genlabel_plugins.cli import main; main()"
    command = [sys.executable, "-c", code, "diagnose", str(tmp_path / "wine.csv"), "--target", "target"]
    command += ["--out", str(out), "--json", "--backends", "gm,gan", "--time-limit", "10000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while "yet: backend gan" not in (out.read_text(encoding="utf-8") if out.exists() else ""):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)  # amid the training, which keeps its best state on Ctrl-C
    process.send_signal(kind)
    printed, complaints = process.communicate(timeout=60)
    page = out.read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert "Recommendation" in page
    assert "backend gan" in page
    if kind == signal.SIGKILL:
        assert "Still at work, or cut off" in page
        return
    assert process.returncode == 130
    assert "Traceback" not in complaints
    assert "Stopped before it was finished" in page
    known = json.loads(printed)
    assert known["interrupted"]
    assert known["missing"] == ["backend gan"]
    assert known["recommendation"]["verdict"]


def test_the_template_is_in_the_wheel():
    folder = Path(genlabel_plugins.__file__).parent
    assert (folder / "diagnostics" / "report" / "report.html.jinja").exists()
