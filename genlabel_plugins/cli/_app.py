"""Commands of `genlabel`: thin layers over `genlabel_plugins.diagnostics`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from genlabel_plugins._version import __version__
from genlabel_plugins.cli._backend_lines import describe_backends
from genlabel_plugins.cli._progress import Watch
from genlabel_plugins.cli._screen import show_backends, show_diagnosis
from genlabel_plugins.diagnostics import Diagnosis, Report, TableError, diagnose, load_table, to_json

BAD_INPUT, INTERRUPTED = 2, 130

app = typer.Typer(
    help="Mixup, or not, for a table: GenLabel's diagnosis before training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"genlabel {__version__}")
        raise typer.Exit


@app.callback()
def _genlabel(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def backends(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the density backends: built-in ones, and those of installed packages."""
    described = describe_backends()
    if as_json:
        Console().print_json(data=[backend._asdict() for backend in described])
    else:
        show_backends(Console(), described)


@app.command(name="diagnose")
def diagnose_file(
    file: Annotated[
        Path,
        typer.Argument(help="CSV, Excel, Parquet, ARFF, SPSS, ..., also packed; or sklearn:wine, openml:NAME_OR_ID."),
    ],
    *,
    target: Annotated[str, typer.Option(help="Column that holds the classes.")],
    out: Annotated[Path | None, typer.Option(help="Write the report to this HTML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    backend: Annotated[
        str | None, typer.Option("--backends", help="Backends to score, separated by commas; by default all.")
    ] = None,
    time_limit: Annotated[float, typer.Option(min=0, help="Seconds after which what is optional is left out.")] = 45.0,
    max_rows: Annotated[int, typer.Option(min=50, help="Rows to use; of more, a stratified sample.")] = 5000,
    encoding: Annotated[
        str | None, typer.Option(help="Of a text file; by default UTF-8, and Latin-1 where that fails.")
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(help="Of a spreadsheet, by name or number; by default the one with the target.")
    ] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The first line is data: columns are called V1, V2, ...")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds, mixed rows and training.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads; for tables this small, more are often slower.")] = 1,
) -> None:
    """Say whether to mix the rows of a table, how, and why.

    Ctrl-C stops and keeps what is done. Exit codes: 0 done, 2 the file or an option is no good, 130 interrupted.
    """
    torch.set_num_threads(threads)  # small products: threads wait for one another
    errors = Console(stderr=True)
    names = None if backend is None else [name.strip() for name in backend.split(",") if name.strip()]
    report = Report()
    try:
        if out is not None:
            _check_out(out, file)
        with Watch(errors) as watch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report holds what backends warn of
            watch.say("reading the table")
            table = load_table(
                file, target, encoding=encoding, sheet=sheet, header=not no_header, max_rows=max_rows, seed=seed
            )
            watch.say("starting")

            def on_step(known: Diagnosis) -> None:
                watch.show(known)
                if out is not None:
                    report.save(known, out)

            diagnosis = diagnose(table, backends=names, seed=seed, time_limit=time_limit, on_step=on_step)
    except (ValueError, ModuleNotFoundError, OSError) as error:  # OSError: the report cannot be written any more
        errors.print(f"genlabel: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt as error:  # before there was anything to keep
        raise typer.Exit(INTERRUPTED) from error
    if as_json:
        typer.echo(to_json(diagnosis))
    else:
        show_diagnosis(Console(), diagnosis, out)
    if diagnosis.interrupted:
        raise typer.Exit(INTERRUPTED)


def _check_out(out: Path, file: Path) -> None:
    """Refuse before the long work what could not be written after it."""
    if out.is_dir():
        raise TableError(f"--out {str(out)!r} is a folder: name a file in it")
    if not out.parent.is_dir():
        raise TableError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}")
    if out.exists() and file.exists() and out.samefile(file):
        raise TableError("--out is the table itself, which the report would overwrite")
    probe = out.parent / f".{out.name}.probe"
    try:
        probe.touch()
        probe.unlink()
        if out.exists():
            out.open("a").close()
    except OSError as error:
        raise TableError(f"--out {str(out)!r} cannot be written: {error.strerror or error}") from error
