"""Commands of `genlabel`: thin layers over `genlabel_plugins.diagnostics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genlabel_plugins._version import __version__

# What computes is imported by the command that computes, so that --help is there at once.

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
    from rich.console import Console  # noqa: PLC0415

    from genlabel_plugins.cli._backend_lines import describe_backends  # noqa: PLC0415
    from genlabel_plugins.cli._screen import show_backends  # noqa: PLC0415

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
        str | None,
        typer.Option("--backends", help="Backends to score, separated by commas; by default all that train none."),
    ] = None,
    groups: Annotated[
        str | None, typer.Option(help="Column that says which rows belong together; they are held out together.")
    ] = None,
    time_column: Annotated[
        str | None, typer.Option("--time", help="Column of times; rows are predicted from those before them.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=0, help="Seconds for all of it; 0 leaves out all that is optional.")
    ] = 45.0,
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
    from genlabel_plugins.cli._diagnosis import Request, run  # noqa: PLC0415

    request = Request(
        file=file,
        target=target,
        out=out,
        as_json=as_json,
        backends=None if backend is None else [name.strip() for name in backend.split(",") if name.strip()],
        groups=groups,
        time=time_column,
        time_limit=time_limit,
        max_rows=max_rows,
        encoding=encoding,
        sheet=sheet,
        header=not no_header,
        seed=seed,
        threads=threads,
    )
    raise typer.Exit(run(request))


@app.command()
def paper(
    name: Annotated[str, typer.Argument(help="list, page, all, table1 ... table9, fig1 ... fig7, examples, theorem.")],
    *,
    data: Annotated[
        Path | None, typer.Option(help="Folder with tabular/ and images/; by default OpenML and torchvision.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the records: what is on file there is not run again.")] = Path(
        "outputs/paper"
    ),
    page: Annotated[Path | None, typer.Option(help="Page to write; by default paper.md in --out.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Splits.")] = 5,
    jobs: Annotated[int | None, typer.Option(help="Processes; by default one, or as joblib's context says.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the boundary attack.")] = 25_000,
    only: Annotated[str | None, typer.Option("--sets", help="OpenML ids, separated by commas.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A trial: one split, few sets, few epochs.")] = False,
) -> None:
    """Reproduce a table or figure of the GenLabel paper; results are kept as they finish, and a rerun continues.

    Exit codes: 0 done, 2 an option or the data is no good, 130 interrupted.
    """
    from genlabel_plugins.cli._paper import run  # noqa: PLC0415

    raise typer.Exit(run(name, only, data=data, out=out, page=page, seeds=seeds, jobs=jobs, quick=quick, steps=steps))
