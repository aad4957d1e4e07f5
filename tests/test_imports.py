"""What an import of the core brings along."""

import subprocess
import sys

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
