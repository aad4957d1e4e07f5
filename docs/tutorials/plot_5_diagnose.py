"""
A table, and no training loop
=============================

``genlabel diagnose`` reads a table and says in plain words whether its rows should be mixed, and what to use.
"""

# %%
# What the command prints for a set of scikit-learn's: :doc:`/diagnose` has its options and every file it reads.

import os
import subprocess
import sys

command = [sys.executable, "-m", "genlabel_plugins.cli", "diagnose", "sklearn:iris", "--target", "target"]
wide = {**os.environ, "COLUMNS": "110"}
print(subprocess.run(command, env=wide, check=True, capture_output=True, text=True).stdout)
