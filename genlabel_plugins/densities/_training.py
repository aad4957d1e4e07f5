"""Fitting a small network to rows: minibatches, Adam, early stopping, a progress bar, private randomness."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genlabel_plugins._state import rank_in_class

MAX_GRADIENT_NORM = 5.0
LONG = 60.0  # seconds of training from which on it is said how long it takes
LOGGED = 10.0  # seconds between two states of a progress bar that nobody watches


class TrainingReport(NamedTuple):
    """How a training went.

    Attributes:
        n_epochs: Passes over the training rows that were begun.
        best_epoch: Passes after which the kept state was reached; 0 is the initial state.
        best_loss: Mean loss of the kept state on the held-out rows, or on the training rows if none are held out.
        interrupted: Whether Ctrl-C ended the training.
    """

    n_epochs: int
    best_epoch: int
    best_loss: float
    interrupted: bool


@contextmanager
def private_rng(generator: torch.Generator) -> Iterator[int]:
    """Seed torch's global generators from `generator` within the block, and restore them after it.

    Libraries of network layers draw their initial weights from the global generators. Yields the seed.

    Example:
        >>> before = torch.get_rng_state()
        >>> with private_rng(torch.Generator().manual_seed(0)):
        ...     layer = nn.Linear(2, 2)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield seed


def hold_out(target: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split rows into training and held-out rows, class by class.

    Args:
        target: Class indices, shape `(N,)`.
        fraction: Fraction of each class to hold out, rounded down: a small class keeps all its rows.
        generator: Source of randomness on the CPU.

    Returns:
        Indices of the training rows and of the held-out rows, on the device of `target`.

    Example:
        >>> train, held_out = hold_out(torch.tensor([0, 0, 0, 0, 1]), 0.25, torch.Generator().manual_seed(0))
        >>> len(train), len(held_out), held_out.item() < 4
        (4, 1, True)
    """
    shuffled, rank = shuffle_by_class(target, generator)
    held_out = rank < (torch.bincount(target) * fraction).long()[target[shuffled]]
    return shuffled[~held_out], shuffled[held_out]


def shuffle_by_class(target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows class by class, in random order within a class, and the place of each among those of its class.

    Example:
        >>> shuffle_by_class(torch.tensor([1, 0, 1]), torch.Generator().manual_seed(0))[1]
        tensor([0, 0, 1])
    """
    shuffled = torch.randperm(len(target), generator=generator).to(target.device)
    shuffled = shuffled[target[shuffled].argsort(stable=True)]
    return shuffled, rank_in_class(target[shuffled])


def minibatches(rows: Tensor, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Batches of row indices: one pass in random order, or in the given order without a generator.

    The last batch is dropped if it would hold less than half of `batch_size`: its gradient is mostly noise.
    """
    if generator is None:
        yield from rows.split(batch_size)
        return
    for batch in rows[torch.randperm(len(rows), generator=generator).to(rows.device)].split(batch_size):
        if 2 * len(batch) >= min(batch_size, len(rows)):
            yield batch


def progress(epochs: range, description: str, *, verbose: bool, unit: str = "epoch") -> Iterable[int]:
    """Epochs, or other units, behind a progress bar if wanted and tqdm is installed; else a long work says how long.

    Where nobody watches, as in a log file, the bar is written every `LOGGED` seconds at most.
    The warning is raised once, after one unit, if all would take more than `LONG` seconds at its pace.
    """
    if verbose:
        with suppress(ModuleNotFoundError):
            from tqdm.auto import tqdm  # noqa: PLC0415 - optional

            is_seen = sys.stderr.isatty() or "ipykernel" in sys.modules
            interval = 0.1 if is_seen else LOGGED
            bar: Iterable[int] = tqdm(epochs, desc=description, unit=unit, leave=False, mininterval=interval)
            return bar
    return _forecast(epochs, description, unit)


def _forecast(epochs: range, description: str, unit: str) -> Iterator[int]:
    begin = time.perf_counter()
    for done, epoch in enumerate(epochs):
        if done == 1 and (seconds := time.perf_counter() - begin) * len(epochs) > LONG:
            warnings.warn(
                f"{description}: the first {unit} took {seconds:.1f} s, so "
                f"{'max_epochs=' if unit == 'epoch' else 'all '}{len(epochs)} take up to "
                f"{seconds * len(epochs) / 60:.0f} min; verbose=True shows progress",
                stacklevel=3,
            )
        yield epoch


def train(
    module: nn.Module,
    loss: Callable[[Tensor], Tensor],
    rows: Tensor,
    held_out: Tensor,
    *,
    max_epochs: int,
    patience: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    verbose: bool = False,
    description: str = "fit",
) -> TrainingReport:
    """Minimise a loss by Adam and keep the best state seen on held-out rows, the initial one included.

    Held-out rows are scored under the same random draws after every epoch, so that losses compare. A batch whose
    gradient is not finite is skipped. Ctrl-C ends the training and keeps the best state so far.

    Args:
        module: Module to train in place; it ends in evaluation mode without gradients.
        loss: From row indices `(b,)` to the mean loss of those rows; may draw from torch's global generators.
        rows: Indices of the training rows.
        held_out: Indices of the held-out rows; if empty, the training loss decides.
        max_epochs: Passes over the training rows at most.
        patience: Epochs without improvement after which to stop.
        batch_size: Rows a step.
        learning_rate: Step size of Adam.
        generator: Source of randomness on the CPU.
        verbose: Show a progress bar.
        description: Label of the progress bar.

    Returns:
        What happened.
    """
    judges = held_out if len(held_out) else rows
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    n_epochs, best_epoch, interrupted = 0, 0, False
    with private_rng(generator) as seed, torch.enable_grad():
        best_loss, best_state = _mean_loss(loss, judges, batch_size, seed), _snapshot(module)
        try:
            for n_epochs in progress(range(1, max_epochs + 1), description, verbose=verbose):
                for batch in minibatches(rows, batch_size, generator):
                    optimizer.zero_grad()
                    loss(batch).backward()
                    if torch.isfinite(nn.utils.clip_grad_norm_(module.parameters(), MAX_GRADIENT_NORM)):
                        optimizer.step()
                now = _mean_loss(loss, judges, batch_size, seed)
                if now < best_loss or not math.isfinite(best_loss):
                    best_loss, best_epoch, best_state = now, n_epochs, _snapshot(module)
                elif n_epochs - best_epoch >= patience:
                    break
        except KeyboardInterrupt:
            interrupted = True
            warnings.warn(
                f"{description} was interrupted in epoch {n_epochs}: the best state, of epoch {best_epoch}, is kept",
                stacklevel=2,
            )
    module.load_state_dict(best_state)
    module.zero_grad()
    module.eval().requires_grad_(False)
    return TrainingReport(n_epochs, best_epoch, best_loss, interrupted)


def _mean_loss(loss: Callable[[Tensor], Tensor], rows: Tensor, batch_size: int, seed: int) -> float:
    """Mean loss under draws that depend on `seed` only."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        total = sum(float(loss(batch)) * len(batch) for batch in minibatches(rows, max(batch_size, 4096)))
    return total / len(rows)


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}
