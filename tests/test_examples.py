"""Every published line runs: the examples, and the Python blocks of the README and the docs."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != "demo.py")  # `make demo` runs it
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IMPORT = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)
MAYBE = ("deeptab", "fastai", "mixup", "skbio", "torch_frame", "ultralytics")  # blocks of absent ones are left out

# What holds at the end of a page.
CHECKS = {
    "comparison.md": """
assert len(moved) >= 3
for x_mix, y in moved.values():
    assert len(x_mix) == len(y) and ((y.sum(1) - 1).abs() < 1e-5).all() and (y.max(1).values < 0.99).any()
assert set(before[0]._get_param_names()) == {"k_neighbors", "random_state", "sampling_strategy"}
assert set(after[1].classes_) == set(range(10))
""",
    "more_hosts.md": """
assert skorch_scores.mean() > 0.85
assert (y[:32].max(1).values == 1).all() and (y[32:].max(1).values < 0.99).any()
assert routine.training_step((images[:32], digit[:32])).requires_grad
from torch_uncertainty.transforms.mixup import MixupMP
_, y = RelabelTransform(MixupMP(1.0, 10), genlabel)(images[:32], digit[:32])
assert (y[32:].max(1).values == 1).all() and (y[:32].max(1).values < 0.99).any()

if "yolo" in globals():
    batch = yolo.trainer.preprocess_batch({"img": torch.rand(8, 3, 32, 32), "cls": torch.arange(8) % 2})
    assert batch["cls"].shape == (8, 2) and ((batch["cls"].sum(1) - 1).abs() < 1e-5).all()

if "deeptab_model" in globals():
    class Seen(nn.CrossEntropyLoss):
        def forward(self, scores, y):
            shapes.append(y.shape[1:])
            return super().forward(scores, y)

    shapes = []
    target, options = load_wine().target, {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    deeptab_model.fit(X, y=target, max_epochs=1, loss_fct=Seen(), callbacks=[GenLabelDeeptab()], **options)
    assert set(shapes) == {(3,), ()}  # soft labels in training, classes in validation
""",
}


def _run(arguments, folder):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "integrations"), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        "MPLBACKEND": "agg",
        "YOLO_CONFIG_DIR": str(folder),
        "YOLO_OFFLINE": "true",
    }
    run = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    absent = re.findall(r"^(?:ModuleNotFound|Import)Error: (.+)$", run.stderr, re.MULTILINE)
    if absent and "from 'genlabel" not in absent[-1]:  # a module, or an extra of ours, that is not installed
        raise ModuleNotFoundError(absent[-1])
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs(path, tmp_path):
    assert len(path.read_text().splitlines()) < 80
    _run([path], tmp_path)


@pytest.mark.slow
def test_the_flag_for_clean_rows_does_something(tmp_path):
    script = [ROOT / "examples" / "timm_training.py", "--epochs", "1", "--genlabel", "--prefetcher"]
    assert _run(script, tmp_path) != _run([*script, "--genlabel-keep-clean"], tmp_path)


def _lacks(block):
    return any(name in MAYBE and importlib.util.find_spec(name) is None for name in IMPORT.findall(block))


def _pages_with_code():
    return [path for path in PAGES if path.exists() and BLOCK.search(path.read_text())]


@pytest.mark.slow
@pytest.mark.parametrize("path", _pages_with_code(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_in_order(path, tmp_path):
    script = tmp_path / "page.py"
    blocks = [block for block in BLOCK.findall(path.read_text()) if not _lacks(block)]
    script.write_text("\n".join([*blocks, CHECKS.get(path.name, "")]))
    _run([script], tmp_path)
