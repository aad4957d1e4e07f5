#!/usr/bin/env bash
# normflows 1.7.3: ActNorm takes its scale from whatever comes first, in eval mode and for log_prob too. If that is one row, as
# where a loop tries the model's shapes or scores a single sample, its standard deviation is nan (torch warns of degrees of
# freedom, once), and so are scale, every later density and the state_dict: the flag that it has been initialized is saved with it.
# Consequence: a flow is lost before its training begins; a batch of a few odd rows leaves a finite but odd start in the same way.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "normflows==1.7.3"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import normflows as nf
import torch

torch.manual_seed(0)
x = torch.randn(100, 3)
for n_first, is_lost in ((2, False), (1, True)):
    make = lambda: nf.NormalizingFlow(nf.distributions.DiagGaussian(3), [nf.flows.ActNorm(3)])
    flow = make().eval()
    with torch.no_grad():
        flow.log_prob(x[:n_first])
        later = flow.log_prob(x)
        again = make()
        again.load_state_dict(flow.state_dict())
        loaded = again.log_prob(x)
    print(f"{n_first} rows first: scale {flow.flows[0].s.flatten().tolist()}, {int(later.isnan().sum())} of 100 later rows are nan")
    assert bool(later.isnan().all()) == bool(loaded.isnan().all()) == is_lost
PYTHON
