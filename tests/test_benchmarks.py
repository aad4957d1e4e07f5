"""Benchmarks that run nowhere else run here, small; and two runs compare."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def _run(*arguments):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "integrations")])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


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
