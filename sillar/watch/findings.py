"""What sizes of activations and gradients tell: who vanishes, explodes, is dead."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

FACTOR = 1e3  # smaller or larger than it was by this factor is lost
DEAD, SATURATED = 0.9, 0.5  # shares of units
EQUAL = 1e-5  # relative differences that are none

INITIALISE = (
    "initialise for what follows, as he_normal does before ReLU and xavier_normal"
    " before tanh, or normalise in between (BatchNorm, LayerNorm)"
)


class Row(NamedTuple):
    """A layer: the root mean square of its output, and of the gradient there.

    `shares` says by the name of an activation how many units are dead or saturated;
    `examples` and `units` how much these differ, NaN of a single one. A gradient is
    None where none flows.
    """

    layer: str
    kind: str
    shape: tuple[int, ...]
    output: float
    gradient: float | None
    shares: Mapping[str, float]
    examples: float
    units: float

    @property
    def gradient_norm(self) -> float:
        """Return the norm, which layers of different sizes have in common."""
        return (self.gradient or 0.0) * math.sqrt(math.prod(self.shape))

    def __str__(self) -> str:
        gradient = "–" if self.gradient is None else f"{self.gradient:.2e}"
        return (
            f"{_cut(self.layer)}  {_cut(self.kind)}  {self.output:10.2e}"
            f"  {gradient:>12}"
        )


class Finding(NamedTuple):
    """What is wrong, in which layer, and what to do."""

    layer: str
    problem: str
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.text}. What to do: {self.advice}."


def findings(rows: Sequence[Row], size: float) -> Iterator[Finding]:
    """Yield what is wrong, given the root mean square `size` of the input."""
    broken = [row for row in rows if not math.isfinite(row.output)]
    if broken:
        text = "the output is not finite, and so is what follows"
        advice = "find the operation with sillar.watch.find_nonfinite()"
        yield Finding(broken[0].layer, "not finite", text, advice)
        return
    yield from _outputs(rows, size)
    yield from _gradients(rows)
    yield from _activations(rows)
    yield from _equal(rows)


def _outputs(rows: Sequence[Row], size: float) -> Iterator[Finding]:
    """Compare outputs with the input: at which layer are they lost for good?"""
    low = _last_run([row.output < size / FACTOR for row in rows])
    if low is not None:
        text = f"activations vanish, rms {rows[low].output:.1e} of {size:.1e} at the"
        advice = f"the weights up to here are too small: {INITIALISE}"
        yield Finding(rows[low].layer, "vanishing", f"{text} input", advice)
    high = _last_run([row.output > size * FACTOR for row in rows])
    if high is not None:
        text = f"activations explode, rms {rows[high].output:.1e} of {size:.1e} at the"
        advice = f"the weights up to here are too large: {INITIALISE}"
        yield Finding(rows[high].layer, "exploding", f"{text} input", advice)


def _gradients(rows: Sequence[Row]) -> Iterator[Finding]:
    """Compare gradients with the one at the output, on the way back."""
    back = [row for row in reversed(rows) if row.gradient is not None]
    if not back:
        return
    broken = [row for row in back if not math.isfinite(row.gradient_norm)]
    if broken:
        advice = "find the operation with sillar.watch.find_nonfinite()"
        yield Finding(
            broken[0].layer, "not finite", "its gradient is not finite", advice
        )
        return
    last = back[0].gradient_norm
    low = _last_run([row.gradient_norm < last / FACTOR for row in back])
    if low is not None or last == 0:
        row = back[low or 0]
        text = f"gradients vanish from here down, norm {row.gradient_norm:.1e} of"
        advice = (
            "look for weights that are too small or zero, for saturated or dead"
            f" activations and for a wrong gradient rule from here on; {INITIALISE}"
        )
        yield Finding(
            row.layer, "vanishing gradient", f"{text} {last:.1e} at the output", advice
        )
    high = _last_run([row.gradient_norm > last * FACTOR > 0 for row in back])
    if high is not None:
        row = back[high]
        text = f"gradients explode from here down, norm {row.gradient_norm:.1e} of"
        advice = (
            "look for weights that are too large and for a wrong gradient rule from"
            f" here on; {INITIALISE}; optim.ClipNorm keeps steps small meanwhile"
        )
        yield Finding(
            row.layer, "exploding gradient", f"{text} {last:.1e} at the output", advice
        )


def _activations(rows: Sequence[Row]) -> Iterator[Finding]:
    """Find the first layer whose units are dead, and the first saturated one."""
    for row in rows:
        if row.shares.get("relu", 0) > DEAD:
            text = f"{row.shares['relu']:.0%} of the units are 0 for every example"
            advice = (
                "make the biases before it larger, centre what comes in, or take"
                " LeakyReLU"
            )
            yield Finding(row.layer, "dead", text, advice)
            break
    for row in rows:
        share = max(row.shares.get("sigmoid", 0), row.shares.get("tanh", 0))
        if share > SATURATED:
            text = f"{share:.0%} of its outputs are saturated, with slopes near 0"
            advice = (
                "scale the inputs to about 1 and make the weights before it smaller,"
                " as xavier_normal does"
            )
            yield Finding(row.layer, "saturated", text, advice)
            break


def _equal(rows: Sequence[Row]) -> Iterator[Finding]:
    """Find where all examples become the same, or all units of a layer."""
    same = _last_run([row.examples < EQUAL and row.output > 0 for row in rows])
    if same is not None:
        advice = (
            "look whether the examples differ, and for biases or constants that are"
            " much larger than what comes in"
        )
        text = "from here on the output is the same for every example"
        yield Finding(rows[same].layer, "equal examples", text, advice)
    alike = [row for row in rows if row.units < EQUAL and row.output > 0]
    if alike:
        advice = "draw the weights at random: equal ones have equal gradients for ever"
        text = "all units have the same output"
        yield Finding(alike[0].layer, "equal units", text, advice)


def _last_run(flags: Sequence[bool]) -> int | None:
    """Return where the run begins in which all flags hold, up to the last; or None."""
    start = len(flags)
    while start and flags[start - 1]:
        start -= 1
    return start if start < len(flags) else None


def _cut(name: str, width: int = 24) -> str:
    name = "".join(c if c.isprintable() else "?" for c in name)
    return f"{name[: width - 1]}…" if len(name) > width else f"{name:{width}}"
