"""What an import of the core brings along."""

import re
import subprocess
import sys
from pathlib import Path

ABSENT = ["sklearn", "scipy", "timm", "pytorch_lightning", "normflows", "zuko", "matplotlib", "safetensors", "typer"]
CODE = f"""
import sys
import genlabel_plugins
def backends():
    return [name for name in sys.modules if name.startswith("genlabel_plugins.densities.backends.")]
genlabel_plugins.list_backends()
print(backends(), [name for name in {ABSENT} if name in sys.modules])
genlabel_plugins.make_backend("nn")
print(len(backends()) > 0)
"""


def test_the_core_is_light_and_loads_backends_on_demand():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[] []", "True"], run.stderr


def test_no_test_imports_another():
    folder = Path(__file__).parent
    for path in folder.rglob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) (test_\w+)", path.read_text(), re.MULTILINE)
        assert not imported, f"{path.relative_to(folder)} imports {imported}: move what they share to a helper module"
