"""Progress bar of a diagnosis, on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from genlabel_plugins.diagnostics import Diagnosis


class Watch:
    """Shows which step is under way; a block that ends takes the bar away."""

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self.stop()

    def stop(self) -> None:
        """Take it away before the end of the block."""
        self._progress.stop()

    def say(self, what: str) -> None:
        """Name the step under way."""
        self._progress.update(self._task, description=what)

    def show(self, diagnosis: Diagnosis) -> None:
        """Count the steps that are done and name the next."""
        task = self._progress.tasks[0]
        total = len(diagnosis.missing) if task.total is None else int(task.total)
        ahead = diagnosis.missing[0] if diagnosis.missing else "done"
        self._progress.update(self._task, total=total, completed=total - len(diagnosis.missing), description=ahead)
