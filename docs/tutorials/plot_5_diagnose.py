"""
A table, and no training loop
=============================

``genlabel diagnose`` reads a table and says in plain words whether its rows should be mixed, and what to use.
"""

# %%
# What the command does, from Python: :doc:`/diagnose` has its options and every file it reads.

import contextlib
import io
import tempfile
from pathlib import Path

from sklearn.datasets import load_iris

from genlabel_plugins.cli.main import main

folder = Path(tempfile.mkdtemp())
load_iris(as_frame=True).frame.to_csv(folder / "iris.csv", index=False)
screen = io.StringIO()
with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
    main(["diagnose", str(folder / "iris.csv"), "--target", "target", "--budget", "quick"])
print(screen.getvalue().replace(str(folder), ""))
