"""
Statistics of several processes
===============================

Under distributed training each process sees its own rows. The class statistics of Algorithm 3 are those of all rows,
on every process, at every step: nothing has to be gathered or sent by hand.
"""

# %%
# One script, run by one process and by two. Each process takes its share of the rows of a step.

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

WORKER = """
import sys, torch, torch.distributed as dist
from genlabel_plugins import RunningGaussian

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
generator = torch.Generator().manual_seed(0)
target = torch.arange(24) % 2
running, means = RunningGaussian(2, beta=0.8), []
for step in range(15):
    x = torch.randn(24, 1, generator=generator) + (1 - 2 * target[:, None]) * (1 + 0.1 * step)
    running.update(x[rank::world], target[rank::world])
    means.append(running.mean_[:, 0].clone())
if rank == 0:
    torch.save(torch.stack(means), sys.argv[1])
dist.destroy_process_group()
"""


def means(n_processes: int) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        script, out = Path(folder, "worker.py"), Path(folder, "means.pt")
        script.write_text(WORKER)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
        subprocess.run([*torchrun, str(script), str(out)], check=True, capture_output=True)
        return torch.load(out)


one, two = means(1), means(2)
print(f"largest difference: {(one - two).abs().max():.1e}")

fig, axis = plt.subplots(figsize=(5.5, 3.2))
for c, color in enumerate(("tab:blue", "tab:red")):
    axis.plot(one[:, c], color=color, label=f"class {c}, one process")
    axis.plot(two[:, c], "o", color=color, markerfacecolor="none", label=f"class {c}, two processes")
axis.set(xlabel="step", ylabel="running mean of the class")
axis.legend(fontsize=8)
fig.tight_layout()
