"""The commands, their arguments and their help; what they do lies beside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from sillar import __version__
from sillar.cli import show
from sillar.cli.bench import app as measuring
from sillar.cli.data import app as data_sets
from sillar.cli.following import follow
from sillar.cli.options import (
    Backend,
    BatchSize,
    Changes,
    Data,
    Debug,
    Device,
    Epochs,
    Json,
    Out,
    Precision,
    Recipe,
    Resume,
    Seed,
    Target,
    Track,
    Workers,
)
from sillar.cli.recipe import parse_change
from sillar.errors import ConfigError

UsageError: Any = typer.BadParameter.__base__  # click's, or typer's own copy of it

app = typer.Typer(
    name="sillar",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Deep learning for security people: train, test, use and look into models.",
    epilog="With --json a command prints one JSON object as its last line.",
)

app.add_typer(data_sets, name="data")
app.add_typer(measuring, name="bench")
app.command()(follow)


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # the results tell
def run(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    try:
        return int(app(arguments, prog_name="sillar", standalone_mode=False) or 0)
    except UsageError as error:
        raise ConfigError(
            f"{error.format_message()} (sillar --help lists what there is)"
        ) from None


def _version(asked: bool) -> None:
    if asked:
        print(f"sillar {__version__}")
        raise typer.Exit


@app.callback()
def sillar(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            callback=_version,
            is_eager=True,
            help="Show the version.",
        ),
    ] = False,
) -> None:
    """Deep learning for security people: train, test, use and look into models."""


@app.command()
def train(
    recipe: Recipe = None,
    data: Data = None,
    target: Target = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    backend: Backend = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    track: Track = False,
    out: Out = None,
    resume: Resume = None,
    changes: Changes = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a model by a recipe, and measure it on the test part."""
    from sillar.cli.train import train

    options = {
        "data.folder": None if data is None else str(data.absolute()),
        "data.target": target,
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.seed": seed,
        "training.backend": backend,
        "training.device": device,
        "training.precision": precision,
        "training.workers": workers,
        "training.track": track or None,
    }
    given = [parse_change(text) for text in changes or []]
    given += [(key, value) for key, value in options.items() if value is not None]
    found = train(recipe, given, out, resume)
    if found is not None:
        _trained(*found, as_json)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")],
    data: Data = None,
    backend: Backend = None,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a trained model on the test part of its recipe."""
    from sillar.cli.evaluate import evaluate

    metrics = evaluate(run, data, backend, device)
    if as_json:
        show.as_json({"run": str(run), "metrics": metrics})
    else:
        show.put(*show.report(metrics, f"test of {show.clean(run)}"))


@app.command()
def predict(
    model: Annotated[
        Path,
        typer.Argument(metavar="RUN|MODEL.safetensors", help="Run, or model file."),
    ],
    examples: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="Examples: .npy, .npz, .csv, or IDX (also packed)."
        ),
    ],
    top: Annotated[
        int, typer.Option(metavar="K", min=1, help="Show the K likeliest classes.")
    ] = 1,
    backend: Backend = None,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say for each example which class it is in, and how likely."""
    from sillar.cli.predict import lines, predict

    result = predict(model, examples, top, backend, device)
    if as_json:
        show.as_json(result)
    else:
        for line in lines(result):
            print(line)


@app.command()
def inspect(
    target: Annotated[
        Path,
        typer.Argument(metavar="RUN|FILE", help="Run, or a file of a model or arrays."),
    ],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a model file or a run holds; nothing in it is run."""
    from sillar.cli.inspect import inspect, tables

    _output(inspect(target), tables, as_json)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page; RUN/report.html by default."),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Choose the threshold that catches this."),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Or whose alarms are right this often."),
    ] = None,
    cost: Annotated[
        str | None,
        typer.Option(
            metavar="MISS:ALARM",
            help="Or the cheapest, given what a miss and a false alarm cost; 10:1.",
        ),
    ] = None,
    data: Data = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a page on how good a run's model is, and how that is known."""
    from sillar.cli.report import report as write
    from sillar.cli.thresholds import parse_promise

    result = write(run, data, out, parse_promise(recall, precision, cost))
    shown = show.pairs("page", [("file", result["file"])])
    _output(result, lambda _: [shown], as_json)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="The runs.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The page; compare.html by default.")
    ] = Path("compare.html"),
    data: Data = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare runs with the first of them, and write a page on it."""
    from sillar.cli.compare import compare as write
    from sillar.cli.compare import tables

    _output(write(runs, data, out), tables, as_json)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to; RUN/model.onnx by default."),
    ] = None,
    data: Data = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a run's model as ONNX, and check that ONNX Runtime agrees."""
    from sillar.cli.export import export as write

    result = write(run, out, data)
    _output(result, lambda _: [show.pairs("onnx", result.items())], as_json)


@app.command()
def draw(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to: .svg, .png, .pdf or .dot; RUN/graph.svg by default.",
        ),
    ] = None,
    unfold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER", help="Show the operations of this layer; all for all."
        ),
    ] = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", metavar="", help="Colour by the gradient.")
    ] = False,
    boxes: Annotated[
        int, typer.Option(metavar="N", min=4, help="Boxes before layers are unfolded.")
    ] = 60,
    data: Data = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw how a run's model computes its loss, in boxes for layers."""
    from sillar.cli.draw import draw

    layers = True if unfold == ["all"] else unfold or ()
    result = draw(run, out, layers, gradients=gradients, boxes=boxes, folder=data)
    if as_json:
        show.as_json(result)
    else:
        count = f"{result['operations']:,} operations in {result['boxes']:,} boxes"
        show.put(show.pairs("picture", [("file", result["file"]), ("shows", count)]))


@app.command()
def profile(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")],
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps to measure.")
    ] = 10,
    cprofile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a profile of Python too, for pstats."),
    ] = None,
    data: Data = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show where the time of a run's training steps goes; the run stays as it is."""
    from sillar.cli.profile import profile, text

    result = profile(run, steps, cprofile, data)
    if as_json:
        show.as_json(result)
    else:
        print(text(result))


@app.command()
def sample(
    model: Annotated[
        Path,
        typer.Argument(metavar="RUN|MODEL.safetensors", help="Run, or model file."),
    ],
    prompt: Annotated[
        str, typer.Option(metavar="TEXT", help="What the text begins with.")
    ] = "",
    length: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Characters to draw: 500, at most 100 of a line."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many samples.")
    ] = 1,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="Below 1 bolder; 0 takes the likeliest.")
    ] = 1.0,
    top_k: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="Draw from the K likeliest alone."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Decides all that is drawn.")
    ] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write text with a character model, as it is drawn."""
    from sillar.cli.sample import open_writer, written

    options = {"temperature": temperature, "top_k": top_k, "seed": seed}
    writer = open_writer(model)
    samples = written(writer, prompt, length, count, options, aloud=not as_json)
    if as_json:
        show.as_json(
            {"model": str(writer.path), "prompt": prompt, **options, "samples": samples}
        )


@app.command()
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Show what this machine has, and what slows training down on it."""
    from sillar.cli.doctor import examine, tables

    _output(examine(), tables, as_json)


def _trained(directory: Path, record: dict[str, Any], as_json: bool) -> None:
    """Print what a run came to; a failed one ends with 2."""
    metrics = record["metrics"]
    if as_json:
        show.as_json({"run": str(directory), "metrics": metrics})
    else:
        first = show.summary(metrics, "test"), *show.beside(metrics)
        show.put(*first, show.run_line(directory))
    if record.get("failed"):
        show.fail(f"training failed: {record.get('reason')}")
        raise typer.Exit(2)


def _output(result: dict[str, Any], tables: Any, as_json: bool) -> None:
    if as_json:
        show.as_json(result)
    else:
        show.put(*tables(result))
