"""Which axis of each value belongs to the examples of a batch.

A step is cut into parts by following one axis, that of the batch, from the arguments
through every call. A value is cut along an axis, or it is a sum over parts of which
each part has its own term, or it is whole. The rules are those of the operations and
nothing else: a product that sums over the batch gives terms of a sum, a function of
each element leaves the cut where it was. Where no rule fits, the value is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

from sillar.backends.base import Array


class Cut(NamedTuple):
    """A value cut along `axis`, where each example has `unit` places."""

    axis: int
    unit: int = 1


class Term(NamedTuple):
    """A value that is the sum of what the parts have."""

    combined_by: str = "add"


State = Cut | Term | None  # None: whole
Shape = tuple[int, ...]


class Given(NamedTuple):
    """What a rule may know: the number of examples, states, shapes and statics."""

    n: int
    states: list[State]
    shapes: list[Shape]
    out: Shape
    static: dict[str, Any]


class Split(NamedTuple):
    """A call in parts: its result, and the axis each whole input is cut along."""

    state: State
    axes: list[int | None]


Rule = Callable[[Given], Split | None]

BLAND = frozenset(  # functions of each element, of any number of operands
    (
        *("add", "subtract", "multiply", "divide", "negative", "exp", "expm1", "log"),
        *("log1p", "sqrt", "sin", "cos", "tanh", "sign", "maximum", "minimum", "erf"),
        *("absolute", "greater", "greater_equal", "less", "less_equal", "equal"),
        *("not_equal", "where", "power", "sigmoid", "softplus", "relu", "astype"),
        *("batch_norm", "batch_norm_input", "normal_cdf", "normal_pdf"),
        *("narrow", "widen"),
    )
)


class EntangledError(Exception):
    """Memory in an order that only parts know would be needed whole."""


def split(name: str, given: Given) -> Split | None:
    """Return how a call is done in parts, None if it needs its inputs whole."""
    if not any(given.states):
        return None
    rule = elementwise if name in BLAND else RULES.get(name)
    if rule is None:
        return None
    if any(isinstance(state, Term) for state in given.states):
        found = _linear(name, given)
    else:
        found = rule(given)
    memory = [given.states[i] for i in MEMORY.get(name, ()) if i < len(given.states)]
    if found is None and any(memory):
        raise EntangledError(name)
    return found


def _linear(name: str, given: Given) -> Split | None:
    """Return a linear function of sums, term by term."""
    terms = [isinstance(state, Term) for state in given.states]
    if any(isinstance(state, Cut) for state in given.states):
        return None
    of_all = name in ("add", "subtract", "pack", "concat")
    of_one = ("negative", "reshape", "transpose", "sum", "broadcast_to", "scatter_add")
    scaled = ("multiply", "matmul")
    if (
        (of_all and all(terms))
        or (name in of_one and terms[0] and not any(terms[1:]))
        or (name in scaled and sum(terms) == 1)
        or (name == "divide" and terms == [True, False])
        or (name == "getitem" and terms[0] and not any(terms[1:]))
    ):
        return Split(Term(), [None] * len(terms))
    return None


def elementwise(given: Given) -> Split | None:
    """Follow the axis through broadcasting: axes are counted from the right."""
    found = {
        (len(shape) - state.axis, state.unit)
        for state, shape in zip(given.states, given.shapes, strict=True)
        if isinstance(state, Cut)
    }
    if len(found) != 1:
        return None
    (right, unit), rank = found.pop(), len(given.out)
    if right > rank or given.out[rank - right] != given.n * unit:
        return None
    axes = [
        len(shape) - right if len(shape) >= right and shape[-right] > 1 else None
        for shape in given.shapes
    ]
    return Split(Cut(rank - right, unit), axes)


def _alone(change: Callable[[Given, Cut], Cut | None]) -> Rule:
    """Return the rule of a call whose first input alone is cut."""

    def rule(given: Given) -> Split | None:
        first, *others = given.states
        if not isinstance(first, Cut) or any(others):
            return None
        cut = change(given, first)
        if cut is None or given.out[cut.axis] != given.n * cut.unit:
            return None
        return Split(cut, [None] * len(given.states))

    return rule


def _reshape(given: Given, cut: Cut) -> Cut | None:
    before = prod(given.shapes[0][: cut.axis])
    for axis, size in enumerate(given.out):
        if prod(given.out[:axis]) == before and size and size % given.n == 0:
            return Cut(axis, size // given.n)
    return None


def _transpose(given: Given, cut: Cut) -> Cut:
    rank = len(given.out)
    axes = [axis % rank for axis in given.static["axes"]]
    return Cut(axes.index(cut.axis), cut.unit)


def _broadcast(given: Given, cut: Cut) -> Cut:
    return Cut(len(given.out) - len(given.shapes[0]) + cut.axis, cut.unit)


def _reduced(given: Given, cut: Cut) -> Cut | None:
    rank = len(given.shapes[0])
    axis = given.static.get("axis")
    axes = range(rank) if axis is None else [axis] if isinstance(axis, int) else axis
    gone = {a % rank for a in axes}
    if cut.axis in gone:
        return None
    kept = len(given.out) == rank
    return Cut(
        cut.axis if kept else cut.axis - sum(a < cut.axis for a in gone), cut.unit
    )


def _sum(given: Given) -> Split | None:
    return _alone(_reduced)(given) or Split(Term(), [None])


def _logsumexp(given: Given, cut: Cut) -> Cut | None:
    return _reduced(given._replace(static={"axis": -1} | given.static), cut)


def _along(given: Given, cut: Cut) -> Cut | None:
    """Keep the cut of a call along another axis, whose shape does not change."""
    axis = given.static.get("axis", 0 if "widths" not in given.static else None)
    if axis is None:
        return cut if given.static["widths"][cut.axis] == (0, 0) else None
    return None if axis % len(given.out) == cut.axis else cut


def _concat(given: Given) -> Split | None:
    if len({s for s in given.states if s}) != 1:
        return None
    cut = next(s for s in given.states if isinstance(s, Cut))
    if _along(given, cut) is None:
        return None
    return Split(cut, [cut.axis] * len(given.states))


def _matmul(given: Given) -> Split | None:
    (a, b), (left, right) = given.states, given.shapes
    inner, rows, below = len(left) - 1, len(left) - 2, len(right) - 2
    if _is_along(a, inner) or _is_along(b, below):
        units = {s.unit for s in (a, b) if isinstance(s, Cut)}
        apart = (a and not _is_along(a, inner)) or (b and not _is_along(b, below))
        return None if apart or len(units) > 1 else Split(Term(), [inner, below])
    if isinstance(a, Cut) and a.axis == rows:
        state = Cut(len(given.out) - 2, a.unit)
        return Split(state, [None, None]) if b is None else None
    if isinstance(b, Cut) and b.axis == below + 1:
        state = Cut(len(given.out) - 1, b.unit)
        return Split(state, [None, None]) if a is None else None
    return elementwise(given)  # stacks of matrices, cut along the stack


def _is_along(state: State, axis: int) -> bool:
    return isinstance(state, Cut) and state.axis == axis


def _images(given: Given) -> Split | None:
    """Cut every operand along its first axis, images and sequences."""
    states = {s for s in given.states if s}
    if len(states) != 1 or not _is_along(next(iter(states)), 0):
        return None
    return Split(next(iter(states)), [0] * len(given.states))


def _examples(given: Given) -> Split | None:
    """Cut every operand along an axis that all of them have."""
    states = {s for s in given.states if s}
    cut = next(iter(states))
    rank = min(len(shape) for shape in given.shapes if shape)
    if len(states) != 1 or not isinstance(cut, Cut) or cut.axis >= rank:
        return None
    return Split(cut, [cut.axis if shape else None for shape in given.shapes])


def _over_channels(given: Given) -> Split | None:
    """Sum over all axes but the last; what has that axis alone is whole."""
    cuts = {s for s in given.states if s}
    cut = next(iter(cuts))
    rank = max(len(shape) for shape in given.shapes)
    if len(cuts) > 1 or not isinstance(cut, Cut) or cut.axis == rank - 1:
        return None
    return Split(
        Term(), [cut.axis if len(shape) == rank else None for shape in given.shapes]
    )


def _conv(given: Given) -> Split | None:
    first, *others = given.states
    if isinstance(first, Cut) and first.axis == 0 and not any(others):
        return Split(first, [None] * len(given.states))
    return None


def _conv_weight(given: Given) -> Split | None:
    if all(s is None or (isinstance(s, Cut) and s.axis == 0) for s in given.states):
        return Split(Term(), [0, 0])
    return None


def _getitem(given: Given) -> Split | None:
    first, *others = given.states
    template = given.static["template"]
    if len(others) == 1 and first is None and len(template) == 1:  # rows of a table
        cut = others[0]
        return Split(cut, [None, None]) if isinstance(cut, Cut) else None
    if others or not isinstance(first, Cut):
        return None
    axis = _axis_after(template, first.axis, len(given.shapes[0]))
    return None if axis is None else Split(Cut(axis, first.unit), [None])


def _scatter(given: Given) -> Split | None:
    values, *others = given.states
    template, shape = given.static["template"], given.static["shape"]
    if len(others) == 1 and len(template) == 1 and values == others[0]:
        return Split(Term(), [None, None])
    if others or not isinstance(values, Cut):
        return None
    for axis in range(len(shape)):
        if _axis_after(template, axis, len(shape)) == values.axis:
            return Split(Cut(axis, values.unit), [None])
    return None


def _axis_after(template: Sequence[Any], axis: int, rank: int) -> int | None:
    """Return where an axis is after basic indexing that takes all of it."""
    used = sum(part is not None and part is not Ellipsis for part in template)
    parts: list[Any] = []
    for part in template:
        parts += [slice(None)] * (rank - used) if part is Ellipsis else [part]
    source = after = 0
    for part in [*parts, *[slice(None)] * (rank - source)]:
        if part is None:
            after += 1
            continue
        if source == axis:
            return after if part == slice(None) else None
        source += 1
        after += isinstance(part, slice)
    return None


def _einsum(given: Given) -> Split | None:
    left, output = given.static["subscripts"].split("->")
    terms = left.split(",")
    letters = {
        (term[s.axis], s.unit)
        for term, s in zip(terms, given.states, strict=True)
        if isinstance(s, Cut)
    }
    if len(letters) != 1:
        return None
    letter, unit = letters.pop()
    axes = [term.index(letter) if letter in term else None for term in terms]
    if letter not in output:
        return Split(Term(), axes)
    return Split(Cut(output.index(letter), unit), axes)


def _kernel(name: str, axes: Sequence[int | None], out: State) -> Rule:
    """Return the rule of a kernel whose inputs are cut along these axes or are whole.

    Memory must come from a kernel that was in parts as well.
    """

    def rule(given: Given) -> Split | None:
        for i, (state, axis) in enumerate(zip(given.states, axes, strict=False)):
            fits = axis is not None and state == Cut(axis)
            if not fits and (state or i in MEMORY.get(name, ())):
                return None
        return Split(out, [*axes[: len(given.states)]])

    return rule


MEMORY = {  # inputs whose order only kernels know, and only for the part they are of
    "recurrent": (2,),
    "recurrent_slopes": (3,),
    "recurrent_input": (3, 4),
    "recurrent_weight": (3, 4),
}
SWEEPS: dict[str, tuple[tuple[int | None, ...], State]] = {  # axes of inputs and output
    "recurrent_keep": ((2, None), Cut(0)),
    "recurrent": ((2, None, 0), Cut(2)),
    "recurrent_slopes": ((2, 2, None, 0), Cut(0)),
    "recurrent_input": ((2, 2, None, 0, 0), Cut(2)),
    "recurrent_weight": ((2, 2, None, 0, 0), Term()),
}
RULES: dict[str, Rule] = {
    "reshape": _alone(_reshape),
    "transpose": _alone(_transpose),
    "broadcast_to": _alone(_broadcast),
    "sum": _sum,
    **dict.fromkeys(("max", "min", "argmax"), _alone(_reduced)),
    "logsumexp": _alone(_logsumexp),
    **dict.fromkeys(("cumsum", "pad"), _alone(_along)),
    "concat": _concat,
    "pack": lambda given: None,
    **{name: _kernel(name, *axes) for name, axes in SWEEPS.items()},
    "matmul": _matmul,
    "getitem": _getitem,
    "scatter_add": _scatter,
    "einsum": _einsum,
    **dict.fromkeys(("conv", "conv_bias", "conv_input"), _conv),
    "conv_weight": _conv_weight,
    **dict.fromkeys(("channel_squares", "batch_norm_weight"), _over_channels),
    **dict.fromkeys(("attention", "attention_slope"), _images),
    **dict.fromkeys(("cross_entropy", "cross_entropy_input"), _examples),
    **dict.fromkeys(
        ("max_pool", "max_pool_at", "max_unpool", "sum_pool", "sum_unpool"), _images
    ),
    **dict.fromkeys(("max_places", "max_unplace"), _images),
}


def part_of(array: Array, axis: int, share: slice) -> Array:
    """Return the part of an array along an axis."""
    return array[(slice(None),) * axis + (share,)]
