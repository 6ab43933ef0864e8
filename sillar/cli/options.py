"""What several commands take, and the long list that `train` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="Print one JSON object as the last line."),
]
Debug = Annotated[
    bool, typer.Option("--debug", metavar="", help="Show the traceback of an error.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Folder of the data, or the file of a text or table.",
    ),
]


Recipe = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE|FILE.toml",
        help="One of the package, such as digits or text, or a file of your own.",
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column of answers, of a table."),
]
Epochs = Annotated[
    int | None, typer.Option(metavar="N", help="Passes over the training part.")
]
BatchSize = Annotated[
    int | None, typer.Option(metavar="N", help="Examples in one step.")
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="Decides all that is drawn.")
]
Backend = Annotated[
    str | None, typer.Option(metavar="NAME", help="What computes: numpy, torch or jax.")
]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="On which device of it: cpu or cuda.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="float32, float64, or to store less: bfloat16, float16."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(metavar="N", help="Processes that read the batches ahead."),
]
Track = Annotated[
    bool,
    typer.Option(
        "--track", metavar="", help="Write metrics.csv and TensorBoard's events too."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where the run goes; runs/RECIPE-TIME by default."
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Go on with the run in this directory."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Another value in the recipe, as in --set optimizer.lr=0.01.",
    ),
]
