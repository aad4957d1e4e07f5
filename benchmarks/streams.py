"""A table that outgrows memory: `gm` learnt from a Parquet set part by part, against reading the set alone.

    python benchmarks/streams.py

10 million rows of 64 float32 features and ten classes are written to a temporary folder, as pyarrow writes by default,
and deleted at the end. Reading alone goes through the batches and makes nothing of them, with all threads of pyarrow;
learning makes tensors of them and calls `partial_fit`, by `--workers` threads, each on a share of the files, whose
densities are merged. Both take turns, by the clock and by CPU time. Peak memory is that of a process of its own for a
tenth of the rows and for all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch
from _timing import Results, add_json_option, ratios, versions

from genlabel_plugins import make_backend
from genlabel_plugins.densities.streaming import StreamingDensity

N_FEATURES, N_CLASSES, PIECE, BATCH = 64, 10, 250_000, 2**16
NAMES = [f"x{i}" for i in range(N_FEATURES)]


def write(folder: Path, n_rows: int) -> None:
    """Parquet files of at most `PIECE` rows, one piece in memory at a time."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(N_CLASSES, N_FEATURES)).astype(np.float32)
    for i, start in enumerate(range(0, n_rows, PIECE)):
        target = rng.integers(N_CLASSES, size=min(PIECE, n_rows - start))
        x = rng.standard_normal((len(target), N_FEATURES), dtype=np.float32) + centers[target]
        columns = {name: np.ascontiguousarray(x[:, j]) for j, name in enumerate(NAMES)}
        pq.write_table(pa.table(columns | {"target": target}), folder / f"{i:05d}.parquet")


def batches(files: list[Path]) -> Iterator[pa.RecordBatch]:
    scanner = ds.dataset(files).scanner(batch_size=BATCH, batch_readahead=4, fragment_readahead=1)
    yield from scanner.to_batches()


def read(files: list[Path]) -> None:
    for _ in batches(files):
        pass


def learn(files: list[Path], workers: int) -> StreamingDensity:
    """`gm` of all rows, each worker on a share of the files."""
    with ThreadPoolExecutor(workers) as pool:
        gm = reduce(StreamingDensity.merge, pool.map(learn_share, (files[i::workers] for i in range(workers))))
    gm.check_fitted()
    return gm


def learn_share(files: list[Path]) -> StreamingDensity:
    gm = make_backend("gm")
    memory = np.empty((N_FEATURES, BATCH), np.float32)
    for batch in batches(files):
        columns = np.stack([batch.column(name).to_numpy() for name in NAMES], out=memory[:, : len(batch)])
        target = torch.tensor(batch.column("target").to_numpy())
        gm.partial_fit(torch.from_numpy(columns).T, target, n_classes=N_CLASSES)
    return gm


def peak_memory(folder: Path, n_files: int, workers: int) -> float:
    """Megabytes that a process of its own takes at most, learning from the first files."""
    call = [sys.executable, __file__, "--learn", str(folder), "--files", str(n_files), "--workers", str(workers)]
    return float(subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--learn", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--files", type=int, help=argparse.SUPPRESS)
    add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.learn:
        import resource

        learn(sorted(args.learn.iterdir())[: args.files], args.workers)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    results = Results(args.json)
    print(versions("torch", "pyarrow", "numpy"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, args.rows)
        files = sorted(folder.iterdir())
        print(f"{args.rows:,} rows, {sum(f.stat().st_size for f in files) / 1e9:.2f} GB in {len(files)} files")
        ways = {"read": partial(read, files), "learn": partial(learn, files, args.workers)}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        cpu: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way, call in ways.items():
                begin, begin_cpu = time.perf_counter(), time.process_time()
                call()
                seconds[way].append(time.perf_counter() - begin)
                cpu[way].append(time.process_time() - begin_cpu)
        low, middle, high = ratios(seconds, "read", "learn")
        results.add("rate of learning over that of reading", (low, middle, high))
        results.add("CPU time of reading over that of learning", ratios(cpu, "read", "learn"))
        for way, taken in seconds.items():
            rate = args.rows / median(taken) / 1e6
            print(
                f"{way}: {median(taken):.1f} s, {rate:.2f} million rows a second, {median(cpu[way]):.1f} s of CPU time"
            )
        verdict = "met" if middle >= 0.6 else "MISSED"
        print(f"rate of learning over that of reading: {middle:.2f} [{low:.2f}, {high:.2f}]  >= 0.6: {verdict}")
        few = max(1, len(files) // 10)
        tenth, whole = (peak_memory(folder, n, args.workers) for n in (few, len(files)))
        print(f"peak memory: {tenth:.0f} MB for {few} files, {whole:.0f} MB for {len(files)}")
    results.write("torch", "pyarrow", "numpy")


if __name__ == "__main__":
    main()
