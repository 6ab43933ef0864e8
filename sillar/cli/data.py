"""`sillar data`: list, fetch and verify named data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sillar.cli import show
from sillar.data.sets import cache_folder, faults, fetch, named_set, named_sets
from sillar.errors import DataError

app = typer.Typer(help="List, fetch and verify named data sets.", add_completion=False)

Name = Annotated[str, typer.Argument(metavar="NAME", help="One that the list has.")]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="DIR", help="A folder that has the files."),
]
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="Print one JSON object as the last line."),
]
Debug = Annotated[
    bool, typer.Option("--debug", metavar="", help="Show the traceback of an error.")
]


@app.command("list")
def list_sets(as_json: Json = False, debug: Debug = False) -> None:
    """Show every data set that has a name; --json has the SHA-256 of its files too."""
    sets = named_sets()
    if as_json:
        show.as_json({"cache": str(cache_folder()), "sets": _plain(sets)})
        return
    lines = [
        (
            s.name,
            f"{s.what}; {s.size / 2**20:.1f} MiB, licence: {s.licence}; {s.home};"
            f" cite: {s.citation}",
        )
        for s in sets.values()
    ]
    show.put(show.pairs("data sets", lines))


@app.command("fetch")
def fetch_set(
    name: Name, folder: From = None, as_json: Json = False, debug: Debug = False
) -> None:
    """Download a data set into the cache, or copy it from a folder, and verify it."""
    wanted = named_set(name)
    with _Bar() as bar:
        place = fetch(name, folder=folder, report=bar.report)
    if as_json:
        show.as_json({"name": name, "folder": str(place)})
    else:
        lines = [("folder", place), ("licence", wanted.licence)]
        show.put(show.pairs(name, [*lines, ("cite", wanted.citation)]))


@app.command("verify")
def verify_set(
    name: Name, folder: From = None, as_json: Json = False, debug: Debug = False
) -> None:
    """Compare every file of a data set with its SHA-256."""
    found = faults(name, folder)
    wrong = {file: fault for file, fault in found.items() if fault}
    if as_json and not wrong:
        show.as_json({"name": name, "files": list(found)})
    if wrong:
        said = "; ".join(f"{file}: {fault}" for file, fault in wrong.items())
        raise DataError(f"data: {name}: {said}: run sillar data fetch {name}")
    if not as_json:
        show.say(f"{name}: all {len(found)} files are what they should be")


class _Bar:
    """Progress of downloads on standard error, where that is a terminal."""

    def __init__(self) -> None:
        from rich import progress  # slow to import, and most commands need none

        console = show.messages()
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
        )
        self.bar = progress.Progress(
            *columns, console=console, disable=not console.is_terminal
        )
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bar:
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def report(self, name: str, done: int, total: int) -> None:
        """Show how much of a file is there."""
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(show.clean(name), total=total)
        self.bar.update(self.tasks[name], completed=done, total=total)


def _plain(sets: dict[str, Any]) -> dict[str, Any]:
    keys = ("what", "home", "licence", "citation", "size")
    return {
        name: {key: getattr(one, key) for key in keys}
        | {"files": {file.name: vars(file) for file in one.files}}
        for name, one in sets.items()
    }
