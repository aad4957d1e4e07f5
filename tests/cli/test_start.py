"""The command line answers at once, and ends on Ctrl-C at any moment in one sentence."""

import os
import signal
import subprocess
import sys
import time

import pytest

import genlabel_plugins

CLI = [sys.executable, "-m", "genlabel_plugins.cli"]
HEAVY = ("torch", "sklearn", "pandas", "matplotlib")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_import_nothing_that_computes(option):
    pytest.importorskip("typer")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *CLI[1:], option],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & set(HEAVY)
    assert "genlabel" in done.stdout


@pytest.mark.slow
def test_public_names_are_there_when_they_are_asked_for():
    code = (
        "import sys, genlabel_plugins as g\nassert 'torch' not in sys.modules\n"
        "assert all(getattr(g, name) is not None for name in g.__all__) and set(g.__all__) <= set(dir(g))\n"
        "assert g.labels.linear_label is g.linear_label\n"
        "from genlabel_plugins import *\nprint(GenLabel.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.stdout == "GenLabel\n", done.stderr
    with pytest.raises(AttributeError, match="has no attribute 'genlabel'"):
        genlabel_plugins.genlabel  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.15, 0.6, 1.5])
def test_ctrl_c_ends_in_one_sentence_while_libraries_are_imported_and_the_table_is_read(tmp_path, iris, after):
    iris.to_csv(tmp_path / "iris.csv", index=False)
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from genlabel_plugins.cli.main import main; print('begun', flush=True); main()"
    command = [sys.executable, "-c", code, "diagnose", str(tmp_path / "iris.csv"), "--target", "target"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints.startswith("genlabel: interrupted")
    assert len(complaints.splitlines()) == 1, complaints
