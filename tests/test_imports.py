"""The core never imports what it serves."""

import subprocess
import sys

HOSTS = ["timm", "pytorch_tabular", "pytorch_lightning", "lightning", "normflows", "zuko", "matplotlib", "safetensors"]
HOSTS += ["genlabel_sklearn", "typer", "jinja2", "dask"]
CODE = f"""
import sys
import genlabel_plugins as g, genlabel_plugins.testing, genlabel_plugins.per_class, genlabel_plugins.from_classifier
import genlabel_plugins.selection
def backends():
    return [name for name in sys.modules if name.startswith("genlabel_plugins.backends.")]
g.list_backends()
print(backends())
g.make_backend("gm")
print(len(backends()) > 0, [host for host in {HOSTS} if host in sys.modules])
"""


def test_the_core_leaves_hosts_alone_and_loads_backends_on_demand():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "True []"], run.stderr
