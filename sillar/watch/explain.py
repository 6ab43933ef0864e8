"""`explain_step`: the chain rule of one's own model, from the loss to a weight."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, GradientError
from sillar.nn import Layer
from sillar.watch.formulas import formula_of
from sillar.watch.graph import Graph, gradient_norms, graph_of
from sillar.watch.repeat import runs
from sillar.watch.rules import verdict

LONGEST = 300  # operations of a part that may be repeated
WIDTH = 80
NAMES = 6  # norms shown of a repeated part


class _Step(NamedTuple):
    """An operation on the way: who takes its result, and which inputs lead on."""

    y: Tensor
    layer: str
    takers: Sequence[int]  # how many steps back each of them was
    places: Sequence[int]
    norm: float
    verdict: str


def explain_step(
    loss: Tensor | Callable[[], Tensor],
    weight: Tensor | str,
    model: Layer | None = None,
    *,
    check: bool = False,
) -> str:
    """Return the way from a scalar `loss` back to `weight`, in text for people.

    `weight` is a tensor, or the path of a parameter of `model`. Every operation that
    lies between them is told once, in the order in which gradients are computed: its
    formula, the shapes, its gradient rule, and the norm of the gradient at its result.
    Where ways part and meet again, all are told together, and what they bring adds up.
    Parts that are repeated are told once. With `check` each rule is held against
    differences in float64, and a wrong one is marked with "!!".
    """
    weight, name = _found(weight, model)
    graph = graph_of("explain_step", loss, model)
    name = name or graph.names.get(id(weight), "the weight")
    steps, last = _way(graph, weight, name, check)
    rows = textwrap.wrap(
        f"From the loss, {graph.output.item():.4g}, back to {name} {weight.shape}: the"
        f" gradient passes {len(steps):,} of {len(graph.tensors):,} operations. Each"
        " takes g, the gradient at its result y, and by its rule gives dx, the"
        " gradient at its input x. |g| is a norm.",
        WIDTH,
    )
    keys = [_key(graph, step) for step in steps]
    for run in runs(keys, LONGEST):
        for i in range(run.start, run.start + run.period):
            rows += ["", *_told(graph, i, steps[i], weight)]
        if run.times > 1:
            rows += ["", *_again(steps, run.start, run.period, run.times)]
    rows += ["", f"d loss / d {name}: {weight.shape}, norm {last:.4g}"]
    return "\n".join(rows)


def _found(weight: Tensor | str, model: Layer | None) -> tuple[Tensor, str]:
    """Return the tensor, and its path if it was named."""
    if isinstance(weight, Tensor):
        return weight, ""
    if model is None:
        raise ConfigError(f"explain_step: give the model too, to find {weight!r:.60}")
    parameters = model.parameters()
    if weight not in parameters:
        known = list(parameters)
        more = f" and {len(known) - 8} more" if len(known) > 8 else ""
        raise ConfigError(
            f"explain_step: the model has no parameter {weight!r:.60}; it has"
            f" {', '.join(known[:8])}{more}"
        )
    return parameters[weight], weight


def _way(
    graph: Graph, weight: Tensor, name: str, check: bool
) -> tuple[list[_Step], float]:
    """Return the steps from the output to the weight, and the norm that arrives."""
    active = {id(weight)}
    for y in graph.tensors:
        if any(id(x) in active for x in y.node.inputs):
            active.add(id(y))
    if id(graph.output) not in active:
        raise GradientError(
            f"explain_step: the loss does not depend on {name} {weight.shape}: its"
            " gradient is zero"
        )
    on_way = [i for i, y in enumerate(graph.tensors) if id(y) in active]
    tensors = [graph.tensors[i] for i in reversed(on_way)]
    *norms, last = gradient_norms(graph.output, [*tensors, weight])
    takers: dict[int, list[int]] = {}
    steps = []
    for i, (y, norm) in enumerate(zip(tensors, norms, strict=True)):
        places = [k for k, x in enumerate(y.node.inputs) if id(x) in active]
        for x in {id(y.node.inputs[k]) for k in places}:
            takers.setdefault(x, []).append(i)
        layer = ".".join(graph.paths[on_way[-1 - i]])
        back = [i - taker for taker in takers.get(id(y), [])]
        found = verdict(y, places) if check else ""
        steps.append(_Step(y, layer, back, places, norm, found))
    return steps, last


def _key(graph: Graph, step: _Step) -> Any:
    """Return what steps have in common that are told once."""
    node = step.y.node
    shapes = tuple(x.shape if isinstance(x, Tensor) else None for x in node.inputs)
    kind = graph.kinds.get(tuple(step.layer.split(".")), "")
    static = repr(node.static)
    ways = (*step.takers, None, *step.places)
    return node.primitive.name, shapes, static, kind, ways, bool(step.verdict)


def _told(graph: Graph, i: int, step: _Step, weight: Tensor) -> Iterator[str]:
    """Yield the lines about one operation."""
    node = step.y.node
    formula = formula_of(node.primitive)
    kind = graph.kinds.get(tuple(step.layer.split(".")) if step.layer else (), "")
    where = " ".join(dict.fromkeys(filter(None, [step.layer, kind])))
    head = f"{i + 1:>3}. {node.primitive.name}" + (f"  ({where})" if where else "")
    static = [f"{name}={_short(value)}" for name, value in node.static.items()]
    yield _cut(", ".join([head, *static]))
    shapes = ", ".join(
        f"{formula.argument(k)} {x.shape}" if isinstance(x, Tensor) else f"{x:g}"
        for k, x in enumerate(node.inputs)
    )
    yield _cut(f"     y = {formula.value}:  {shapes} -> {step.y.shape}")
    if len(step.takers) > 1:
        parts = " and ".join(str(i + 1 - back) for back in step.takers)
        yield _cut(f"     g = the sum of what {parts} give")
    elif step.takers and step.takers[0] != 1:
        yield f"     g = what {i + 1 - step.takers[0]} gives"
    yield f"     |g| = {step.norm:.4g}"
    for k in step.places:
        own = ", for the weight" if node.inputs[k] is weight else ""
        yield _cut(f"     d{formula.argument(k)} = {formula.gradient(k)}{own}")
    if step.verdict:
        yield from textwrap.wrap(
            f"     {step.verdict}", WIDTH, subsequent_indent=" " * 5
        )


def _again(steps: Sequence[_Step], start: int, period: int, times: int) -> list[str]:
    """Return the lines about a part that is repeated."""
    last = start + period * times - 1
    norms = [steps[start + period * k].norm for k in range(times)]
    shown = norms if times <= NAMES else [*norms[:3], None, *norms[-3:]]
    text = ", ".join("…" if n is None else f"{n:.4g}" for n in shown)
    what = "this operation" if period == 1 else f"these {period} operations"
    layers = [steps[i].layer for i in (start + period, last)]
    where = f", {layers[0]} to {layers[1]}" if all(layers) else ""
    lead = f"{start + period + 1} to {last + 1}: {what} {times - 1} times more{where}."
    return textwrap.wrap(
        f"{lead} |g| at the first of them, each time: {text}",
        WIDTH,
        initial_indent="     ",
        subsequent_indent="     ",
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _cut(line: str) -> str:
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
