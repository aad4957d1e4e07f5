"""What the terminal shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from genlabel_plugins.cli._backend_lines import BackendLine
from genlabel_plugins.diagnostics import Diagnosis
from genlabel_plugins.diagnostics.report import wording

TONES = {"good": "green", "fair": "yellow", "poor": "red"}


def show_backends(console: Console, backends: Sequence[BackendLine]) -> None:
    """A table of backends."""
    table = Table("backend", "", "status", box=None, pad_edge=False)
    for line in backends:
        origin = "" if line.package in ("genlabel_plugins", "") else f" ({line.package})"
        style = "green" if line.status == "ready" else "yellow"
        table.add_row(Text(line.name, "bold"), Text(line.description + origin), Text(line.status, style))
    console.print(table)


def show_diagnosis(console: Console, diagnosis: Diagnosis, out: Path | None) -> None:
    """What gives the class away, the best model, tables of what is known, and the answer again where the eye is."""
    labeled = diagnosis.table
    best = wording.standing_words(diagnosis)
    console.print(
        Text(f"{labeled.name}: {len(labeled.x):,} rows, {labeled.x.shape[1]:,} columns, ", "bold")
        + Text(wording.class_words(labeled, [""] * len(labeled.class_names))["sentence"])
    )
    for sentence in labeled.giveaways or ():
        console.print(Text("The class is given away. ", "bold red") + Text(sentence, "default"))
    if best is not None:
        console.print(Text(f"Best model found: {best['title']}. ", "bold") + Text(best["sentences"][0], "default"))
    for treatment in labeled.treatments:
        console.print(Text(f"  {treatment}", "dim"))
    _show_classes(console, diagnosis)
    _show_intrusion(console, diagnosis)
    _show_fits(console, diagnosis)
    _show_comparison(console, diagnosis)
    _show_models(console, best)
    for title, reason in diagnosis.skipped.items():
        console.print(Text(f"Left out, {title}: {reason}", "dim"))
    if diagnosis.missing:
        console.print(Text(f"Stopped; missing: {', '.join(diagnosis.missing)}.", "yellow"))
    _show_recommendation(console, diagnosis, best)
    if out is not None:
        console.print(Text(f"Report: {out}"), soft_wrap=True)
    else:
        console.print(Text("With --out report.html: pictures, and code to copy.", "dim"))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", header_style="dim", overflow="fold")
    return table


def _name(text: str) -> Text:
    """A name from the file, without what would steer the terminal."""
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))


def _show_classes(console: Console, diagnosis: Diagnosis) -> None:
    labeled = diagnosis.table
    console.print(Text("\nClasses", "bold"))
    table = _table("class", "rows", "share")
    for row in wording.class_words(labeled, [""] * len(labeled.class_names))["rows"]:
        table.add_row(_name(row["name"]), row["count"], row["share"])
    console.print(table)


def _show_intrusion(console: Console, diagnosis: Diagnosis) -> None:
    words = wording.intrusion_words(diagnosis)
    if words is None:
        return
    console.print(Text("\nIntrusion per pair of classes, the worst first", "bold"))
    table = _table("mixed", "with", "intrude", "of")
    for pair in words["pairs"]:
        table.add_row(_name(pair["first"]), _name(pair["second"]), pair["rate"], pair["n_mixed"])
    console.print(table, Text(words["sentence"]), sep="\n")


def _show_fits(console: Console, diagnosis: Diagnosis) -> None:
    if not diagnosis.fits:
        return
    console.print(Text("\nDo the densities fit? (held-out rows)", "bold"))
    largest = wording.largest_class(diagnosis.table, diagnosis.comparison)
    table = _table("backend", f"accuracy, % ({largest})", "ECE, %", "log-loss", "")
    table.columns[-1].justify = "left"
    for fit in diagnosis.fits.values():
        words = wording.fit_words(fit)
        verdict = Text(words["verdict"], TONES[words["tone"]]) + Text(f"; {words['calibration']}", "default")
        table.add_row(Text(words["name"]), words["accuracy"], words["calibration_error"], words["log_loss"], verdict)
    console.print(table)


def _show_comparison(console: Console, diagnosis: Diagnosis) -> None:
    if diagnosis.comparison is None or not diagnosis.comparison.settings:
        return
    words = wording.comparison_words(diagnosis.comparison, diagnosis.table)
    console.print(Text(f"\nHeld-out accuracy of logistic regression, % ({words['largest']})", "bold"))
    table = _table("", "mixed rows only", "+ clean batch")
    for row in words["rows"]:
        cells = [Text(cell["text"], "bold green" if cell["is_best"] else "") for cell in row["cells"][:2]]
        table.add_row(Text(row["name"]), *cells)
    console.print(table, Text(words["method"], "dim"), sep="\n")


def _show_models(console: Console, words: dict[str, Any] | None) -> None:
    if words is None:
        return
    console.print(Text("\nAll models (held-out rows)", "bold"))
    table = _table("model", f"accuracy, % ({words['largest']})", "balanced accuracy, %", "log-loss")
    for place, row in enumerate(words["rows"]):
        style = "bold green" if place == 0 else ""
        cells = (row["accuracy"], row["balanced_accuracy"], row["log_loss"])
        table.add_row(Text(row["name"]), *(Text(cell, style) for cell in cells))
    console.print(table, Text(words["method"], "dim"), sep="\n")


def _show_recommendation(console: Console, diagnosis: Diagnosis, best: dict[str, Any] | None) -> None:
    if best is None:
        return
    body = Text(f"Best model found: {best['title']}\n", "bold")
    for sentence in best["sentences"]:
        body.append(f"{sentence}\n", "not bold")
    if diagnosis.recommendation is None:
        console.print(Panel(body, title="Recommendation", title_align="left", expand=False))
        return
    words = wording.recommendation_words(diagnosis.recommendation)
    body.append(f"\nDoes mixing help? {words['verdict']}: {words['effect']}\n", "bold")
    sure = "; ".join(part for part in (words["confidence"], words["why"]) if part)
    body.append(f"{sure}{'; ' * bool(sure)}probability {words['probability']} {words['that']}\n", "not bold")
    for sentence in (*words["reasons"], *words["cautions"]):
        body.append(f"\n- {sentence}", "not bold")
    console.print(Panel(body, title="Recommendation", title_align="left", expand=False))
