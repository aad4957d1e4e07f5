"""Each benchmark runs, on little, and two runs compare; what a benchmark measures is not looked at."""

import contextlib
import importlib
import json
import logging
import os
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris, load_wine
from sklearn.linear_model import LogisticRegression

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"
QUICK = {"n_repeats": 1, "selection": "best"}
WAYS = {
    "no mixing": {"schemes": ("none",)} | QUICK,
    "mixup": {"schemes": ("mixup",)} | QUICK,
    "density alone (gm)": {"schemes": ("density",), "backends": ("gm",)} | QUICK,
    "the default: no mixing, mixup, GenLabel and densities, stacked": {"schemes": ("none", "density"), "n_repeats": 1},
}


def _train(*args, **options):
    from examples.demo import train

    return train(*args, **options | {"epochs": 1})


# By name: its options, and what it reads from the head of its file, made small. Each must print the words beside them.
SMALL = {
    "class_statistics": ("--seeds 1", {"train": _train, "N_TRAIN": 100}, "un-mixed"),
    "cv": (
        "--rounds 1 --sample 1",
        {"EPOCHS": 2, "load_wine": load_iris, "load_breast_cancer": load_iris},
        "240 models",
    ),
    "densities": ("--rounds 1 --device cpu --only intrusion", {}, "genlabel takes"),
    "diagnose": (
        "--rounds 1",
        {"BACKENDS": {"gm": ["--backends", "gm", "--time-limit", "3"]}, "LIMITS": (3,)},
        "at most a tenth more",
    ),
    "estimators": ("--only '20 x 8'", {}, "20 x 8"),
    "evidence": ("--data {data} --sets wine", {"SHAPES": ((30, 3, 2),)}, "| `gm` | 1 |"),
    "flows": (
        "--rounds 2 --features 2",
        {"N_ROWS": 60, "N_UNSEEN": 20, "CANDIDATES": {"gm": ("gm", {}), "vae": ("vae", {"max_epochs": 2})}},
        "nats from the truth",
    ),
    "gan_inversion": ("--epochs 1 --latent-dim 2", {"BATCH": 8, "N_BATCHES": 2}, "held-out accuracy"),
    "generative_mixing": ("", {"N_CLASSES": 2, "N_ROWS": 30, "N_BATCH": 8}, "attained"),
    "imbalanced": ("--seeds 2 --data {data} --sets wine", {}, "GenerativeMixSampler"),
    "import_time": (
        "--rounds 1",
        {"CANDIDATES": {"torch": "", "ours": "import genlabel_plugins"}, "PAIRS": [("ours", "torch", 1)]},
        "the goal is",
    ),
    "mlp": ("--seeds 1", {"HIDDEN": (4,), "load_breast_cancer": load_wine, "load_digits": load_wine}, "MLPClassifier"),
    "mnist_low_data": (
        "--seeds 1 --images 100 --jobs 1 --out {data}/runs.jsonl --tuned",
        {"train": _train, "WAYS": [{"scheme": "genlabel", "gamma": 0.5, "keep_clean": True}], "WEIGHT_DECAYS": (0.05,)},
        "100 images",
    ),
    "openml_suite": (
        "--short --seeds 1 --data {data} --sets wine",
        {"WAYS": WAYS, "SCEPTICS": {"LogisticRegression": lambda seed: LogisticRegression(max_iter=1000)}},
        "against scikit-learn's classifiers",
    ),
    "parents": (
        "--rounds 1 --problems 1 --rows 40",
        {"SIZES": ((60, 3, 2),), "COLUMNS": (2,), "N_TREES": 2},
        "without",
    ),
    "paper_figures": ("--out {data}", {"N_MIXED": 50}, "attain their lam"),
    "real_data": ("--data {data} --backends gm", {"SETS": ["wine"]}, "held-out accuracy"),
    "regimes": ("--backends gm", {}, "two moons"),
    "reservoir": ("--rows 40 --seeds 1", {}, "nn 10000"),
    "steps": ("--rounds 1", {}, "logistic regression"),
    "streams": ("--rows 2000 --rounds 1", {"peak_memory": lambda folder, n_files, workers: 0.0}, "rate of learning"),
    "tabular": ("--seeds 2 --tables wine --data {data}", {"N_STEPS": 1}, "mean ± standard deviation"),
    "timm_step": ("--model test_resnet --size 32 --batch 8 --rounds 1", {}, "features reused"),
    "wide": ("--seeds 1 --quick --only 'digits, 60 rows PCA(40)'", {}, "digits, 60 rows"),
}


@pytest.fixture
def data(tmp_path):
    """A folder with a table as `--data` takes it."""
    (tmp_path / "tabular").mkdir()
    frame = load_wine(as_frame=True).frame.rename(columns={"target": "class"})
    frame[::3].to_csv(tmp_path / "tabular" / "wine.csv.gz", index=False)
    return tmp_path


@pytest.fixture
def benchmark(monkeypatch, data):
    """Imports a benchmark as if its folder were the script's, and leaves the process as it was."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.chdir(data)
    monkeypatch.setattr(importlib.import_module("_timing"), "MIN_SECONDS", 0)
    n_threads, modules = torch.get_num_threads(), set(sys.modules)
    with warnings.catch_warnings():
        yield importlib.import_module
    torch.set_num_threads(n_threads)
    logging.disable(logging.NOTSET)
    for name in set(sys.modules) - modules:
        if (FOLDER / f"{name}.py").exists():
            del sys.modules[name]


def test_every_benchmark_is_here():
    elsewhere = {"compare", "gpu", "networks", "few_shot", "distillation"}  # the first two below, or beside this file
    assert {path.stem for path in FOLDER.glob("[!_]*.py")} == {*SMALL, *elsewhere}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_benchmark_runs(name, benchmark, data, monkeypatch, capfd):
    options, constants, words = SMALL[name]
    module = benchmark(name)
    for constant, value in constants.items():
        for reader in (module, sys.modules.get("_openml_runs")):
            if hasattr(reader, constant):
                monkeypatch.setattr(reader, constant, value)
    writes = hasattr(module, "add_json_option")
    options += " --json {data}/ratios.json" if writes else ""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *shlex.split(options.format(data=data))])
    with contextlib.suppress(SystemExit):
        module.main()
    assert words in capfd.readouterr().out
    assert not writes or json.loads((data / "ratios.json").read_text())["about"]["threads"]


@pytest.mark.slow
def test_the_search_is_held_to_its_best_single_candidate(benchmark, data, monkeypatch, capsys):
    module = benchmark("openml_suite")
    for _ in range(2):  # the second run finds the first on file
        monkeypatch.setattr(sys, "argv", shlex.split(f"openml_suite.py --stacking --seeds 1 --data {data} --sets wine"))
        module.main()
    printed = capsys.readouterr()
    assert printed.out.count("1 sets, 1 splits") == 2
    assert printed.err.count("1 of 1 runs") == 1


def test_a_table_that_the_folder_lacks_is_named(benchmark, data):
    with pytest.raises(SystemExit, match=r"has no tabular/iris\.csv\.gz: leave --data out to fetch iris"):
        benchmark("_data").load(data, "iris")


def test_levels_of_a_fetched_table_become_columns(benchmark):
    rows = pd.DataFrame({"size": [1.5, 2.0, np.nan, 4.0], "sex": list("mfmf"), "place": pd.Categorical(list("uvuw"))})
    x, target = benchmark("_data").encode(rows, pd.Series(["yes", "no", "no", "yes"]))
    assert x.tolist() == [[1, 1, 0, 0, 1.5], [0, 0, 1, 0, 2.0], [0, 0, 0, 1, 4.0]]
    assert target.tolist() == [1, 0, 1]


def _run(*arguments):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "integrations")])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_run_for_gpus_passes_on_a_cpu(tmp_path):
    path = tmp_path / "gpu.json"
    run = _run(ROOT / "benchmarks" / "gpu.py", "--device", "cpu", "--tiny", "--json", path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "FAILED" not in run.stdout
    assert "kde 8,3,40: flex_attention" in json.loads(path.read_text())["ratios"]


def test_a_ratio_that_fell_by_more_than_a_fifth_is_flagged(tmp_path):
    for name, ratios in (("before", {"a": 10.0, "b": 10.0, "c": 1.0}), ("after", {"a": 7.9, "b": 8.1, "d": 1.0})):
        content = {"about": {"torch": name}, "ratios": {key: {"median": ratio} for key, ratio in ratios.items()}}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    run = _run(ROOT / "benchmarks" / "compare.py", tmp_path / "before.json", tmp_path / "after.json")
    assert run.returncode == 1
    lines = {line.split("│")[1].strip(): line for line in run.stdout.splitlines() if line.startswith("│")}
    assert "FELL" in lines["a"]
    assert "FELL" not in lines["b"]
    assert "only in one" in lines["c"]
    assert "only in one" in lines["d"]
    same = _run(ROOT / "benchmarks" / "compare.py", tmp_path / "after.json", tmp_path / "after.json")
    assert same.returncode == 0
