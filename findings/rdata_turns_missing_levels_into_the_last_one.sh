#!/usr/bin/env bash
# rdata 1.1.0: a missing value of a pandas categorical is written to .rds as code 0 of the factor, where R has NA_integer_.
# Read back by rdata itself it is the last level: ["u", "v", None] becomes ["u", "v", "v"], without a word.
# Consequence: a column of levels with gaps must not travel from pandas to R this way; strings with gaps do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "rdata==1.1.0" "pandas==2.3.3"
"$folder/venv/bin/python" - "$folder/t.rds" <<'PYTHON'
import sys

import pandas as pd
import rdata

written = pd.DataFrame({"level": pd.Categorical(["u", "v", None])})
rdata.write_rds(sys.argv[1], written)
factor = rdata.parser.parse_file(sys.argv[1]).object.value[0]
read = rdata.read_rds(sys.argv[1])["level"]
print(f"written {written['level'].tolist()}, codes in the file {factor.value.tolist()}, read {read.tolist()}")
assert factor.value.tolist() == [1, 2, 0]
assert read.tolist() == ["u", "v", "v"]
PYTHON
