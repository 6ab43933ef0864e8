"""The base of every optimizer: it runs a rule over the parameter vector in blocks."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from sillar.backends import Array, backend_of
from sillar.backends.numpy.rule import Rule
from sillar.backends.replay import Work
from sillar.core.dtypes import SCALARS
from sillar.core.parameter import Parameters
from sillar.core.tape import effect
from sillar.core.tensor import Tensor, wrap
from sillar.errors import ConfigError, DtypeError, ShapeError
from sillar.optim.checks import at_least_zero, integer, same_names
from sillar.optim.penalty import Penalty
from sillar.optim.schedule import Schedule
from sillar.optim.transform import Transform

BLOCK = 32_768  # elements: a rule's temporaries then stay in the L2 cache


class Optimizer(ABC):
    """A rule that moves parameters along their gradients.

    A subclass gives `init` and `update`, elementwise arithmetic on plain arrays, and
    `step_size` where penalties should know its rates. This class owns the vector, its
    blocks, the step count and the schedule. `updates` counts the updates applied since
    `bind`.
    """

    updates = 0
    _params: Parameters | None = None
    _transforms: tuple[Transform, ...] = ()
    _penalty: Penalty | None = None
    _shrunk: tuple[slice, ...] = ()  # what the penalty acts on
    _compiled: Rule | None = None
    _compiled_for: dict[str, Any] | None = None  # the numbers it was compiled with
    _blocks: Any = None
    _ready: Any = None  # the rule as a back end runs it

    def __init__(self, lr: float | Schedule) -> None:
        what = f"{type(self).__name__}: lr"
        self.lr = lr if isinstance(lr, Schedule) else at_least_zero(what, lr)
        self._rule: dict[str, Array] = {}

    @abstractmethod
    def init(self, p: Array) -> dict[str, Array]:
        """Return the rule's state at parameters `p`: arrays of the shape of `p`."""

    @abstractmethod
    def update(
        self, p: Array, g: Array, s: dict[str, Array], lr: float, t: int
    ) -> tuple[Array, dict[str, Array]]:
        """Return new arrays, parameters and state, from gradient `g`; `t` is from 1."""

    def step_size(self, s: dict[str, Array], lr: float, t: int) -> Array | float:
        """Return how far a steady gradient of 1 moves each element, update by update.

        It is the step of a penalty's proximal map; `lr`, unless the rule says more.
        """
        return lr

    def bind(
        self,
        params: Parameters,
        *,
        transforms: Iterable[Transform] = (),
        penalty: Penalty | None = None,
    ) -> Self:
        """Start afresh on `params`; gradients pass `transforms` in the order given."""
        name = f"{type(self).__name__}.bind"
        if not isinstance(params, Parameters):
            raise ConfigError(
                f"{name}: expected Parameters, got {type(params).__name__}: give"
                " model.parameters()"
            )
        transforms, shrunk = _all_transforms(name, transforms), _places(params, penalty)
        home = backend_of(params.vector)
        if (vector := home.lasting(params.vector)) is not params.vector:
            params.look_at(vector)
        state = self.init(vector)
        self._rule = {name: home.lasting(array) for name, array in state.items()}
        self._compiled_for = None
        self._params, self._transforms = params, transforms
        for transform in transforms:
            transform.reset()
        self._penalty, self._shrunk = penalty, shrunk
        self.updates = 0
        return self

    @property
    def params(self) -> Parameters:
        """Return the parameters that `bind` was given."""
        return self._bound()

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """Return what gradients pass first, as `bind` was given it."""
        return self._transforms

    @property
    def rate(self) -> float:
        """Return the learning rate of the next update."""
        if not isinstance(self.lr, Schedule):
            return self.lr
        what = f"{type(self).__name__}: lr at step {self.updates}"
        return at_least_zero(what, self.lr(self.updates))

    def step(
        self,
        grads: Mapping[str, Any] | Sequence[Any] | Array,
        *,
        where: Tensor | None = None,
    ) -> bool:
        """Apply one update; return False when a transform held it back.

        `grads` holds one gradient per parameter, by path or in order, or is one vector.
        `where` is one truth value: if it is false, nothing moves. A compiled step that
        is one program counts such an update all the same.
        """
        p = self.params.vector
        if isinstance(grads, Mapping | list | tuple):
            grads = self.params.pack(grads)
        g = grads.data if isinstance(grads, Tensor) else grads
        self._check(p, g, "step: the gradient")
        before = self.updates
        only = () if where is None else (where,)
        effect(self._descend, wrap(g), *only)  # a compiled step does it each time
        return self.updates > before

    def state(self) -> dict[str, Any]:
        """Return a copy of all that a resumed run needs, as a flat dictionary."""
        self._bound()
        state: dict[str, Any] = {"updates": self.updates}
        state |= {f"rule.{name}": _kept(a) for name, a in self._rule.items()}
        for i, transform in enumerate(self._transforms):
            saved = transform.state().items()
            state |= {f"transforms.{i}.{name}": value for name, value in saved}
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state, after the same `bind`."""
        p = self.params.vector
        prefixes = tuple(f"transforms.{i}." for i in range(len(self._transforms)))
        rest = [name for name in state if not name.startswith(prefixes)]
        what = f"{type(self).__name__}.load_state"
        same_names(what, ["updates", *(f"rule.{name}" for name in self._rule)], rest)
        updates = integer(f"{what}: updates", state["updates"], low=0)
        rule = {name: np.asarray(state[f"rule.{name}"]) for name in self._rule}
        for name, array in rule.items():
            self._check(_kept(p), array, f"load_state: rule.{name}")
        for transform, prefix in zip(self._transforms, prefixes, strict=True):
            transform.load_state(_below(prefix, state))
        self.updates = updates
        for name, array in rule.items():
            old = self._rule[name]
            self._rule[name] = backend_of(old).assign(old, array)

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({values})"

    def _bound(self) -> Parameters:
        if self._params is None:
            name = type(self).__name__
            raise ConfigError(
                f"{name}: expected parameters to work on, got none yet: call"
                f" {name}.bind(model.parameters()) first"
            )
        return self._params

    def _descend(self, g: Array, *where: Array) -> None:
        if not all(map(bool, where)):
            return
        p = self.params.vector
        for transform in self._transforms:
            g = transform(g)
            if g is None:
                return
            self._check(p, g, "step: the result of", transform)
        self._apply(p, g, *self._numbers())
        self._count()

    def _work(self) -> Work | None:
        """Return `_descend` apart from its Python, unless a transform is Python."""
        if not all(transform.pure for transform in self._transforms):
            return None
        arrays = self.params.vector, *self._rule.values()
        known = repr((self._fixed(), self._transforms, self._penalty))
        alone = not self._transforms and self._penalty is None
        even = alone and self._compiled_rule(self.params.vector) is not None
        work = Work(arrays, self._descend_with, self._numbers, self._count, known)
        return work._replace(stretch=self._stretch) if even else work

    _descend.work = _work  # type: ignore[attr-defined]

    def _stretch(self, place: slice) -> Callable[..., None]:
        """Return `_descend_with` of one input, for the elements at a place."""
        rule, kept = self._compiled_rule(self.params.vector), []
        p, *state = (a[place] for a in (self.params.vector, *self._rule.values()))

        def run(g: Array, lr: float, t: int) -> None:
            if not kept or kept[0] is not g:
                kept[:] = g, rule.whole([p, g[place], *state])
            rule.run(kept[1], lr, t)

        return run

    def _descend_with(self, g: Array, *more: Any) -> None:
        *where, lr, t = more
        moved = self.params.vector, *self._rule.values()
        xp = backend_of(g)
        before = [xp.copy(a) for a in moved if where]
        for transform in self._transforms:
            g = transform(g)
        self._apply(self.params.vector, g, lr, t)
        for a, old in zip(moved, before, strict=False):
            a[:] = xp.where(where[0], a, old)

    def _fixed(self) -> dict[str, Any]:
        """Return the rule's own numbers, without those that `update` is given."""
        numbers = {k: v for k, v in vars(self).items() if type(v) in SCALARS}
        return {k: v for k, v in numbers.items() if k not in ("lr", "updates")}

    def _numbers(self) -> tuple[float, int]:
        return self.rate, self.updates + 1

    def _count(self) -> None:
        self.updates += 1

    def _apply(self, p: Array, g: Array, lr: float, t: int) -> None:
        compiled = self._compiled_rule(p)
        if compiled is None:
            self._run_plainly(p, g, lr, t)
        else:
            compiled.run(self._cut(compiled, p, g), lr, t)
        if self._penalty is not None:
            self._shrink(p, self._penalty, lr, t)

    def _run_plainly(self, p: Array, g: Array, lr: float, t: int) -> None:
        update = self._rule_for(p)
        for block in _blocks(p, slice(0, p.shape[0])):
            moved, new = update(p[block], g[block], self._part(block), lr, t)
            for name, a in self._rule.items():
                a[block] = new[name]
            p[block] = moved

    def _rule_for(self, p: Array) -> Any:
        """Return `update` as the back end runs it, while its numbers are the same."""
        numbers = {k: v for k, v in vars(self).items() if type(v) in SCALARS}
        known = backend_of(p).name, numbers | {"updates": 0}
        if self._ready is None or self._ready[0] != known:
            self._ready = known, backend_of(p).rule(self.update)
        return self._ready[1]

    def _compiled_rule(self, p: Array) -> Rule | None:
        """Return the rule as a list of calls, if it is arithmetic and nothing else.

        A rule of the user's own runs as it stands: its Python may do more than that.
        """
        if not isinstance(p, np.ndarray):
            return None
        if type(self).update.__module__.partition(".")[0] != "sillar":
            return None
        numbers = {k: v for k, v in vars(self).items() if type(v) in SCALARS}
        numbers.pop("updates", None)
        if self._compiled_for != numbers:
            self._compiled_for, self._blocks = numbers, None
            alike = all(a.dtype == p.dtype for a in self._rule.values())
            try:
                self._compiled = Rule(self.update, list(self._rule)) if alike else None
            except Exception:  # whatever a rule does with a symbol: run it as it stands
                self._compiled = None
        return self._compiled

    def _cut(self, rule: Rule, p: Array, g: Array) -> Any:
        """Return all vectors in blocks, kept while they lie where they lay."""
        vectors = (p, g, *self._rule.values())
        if self._blocks is None or any(
            a is not b for a, b in zip(vectors, self._blocks[0], strict=True)
        ):
            self._blocks = vectors, rule.shares(vectors)
        return self._blocks[1]

    def _shrink(self, p: Array, penalty: Penalty, lr: float, t: int) -> None:
        for place in self._shrunk:
            for block in _blocks(p, place):
                step = self.step_size(self._part(block), lr, t)
                p[block] = penalty.proximal(p[block], step)

    def _part(self, block: slice) -> dict[str, Array]:
        return {name: a[block] for name, a in self._rule.items()}

    def _check(self, p: Array, array: Any, *what: object) -> None:
        got = getattr(array, "shape", type(array).__name__)
        if got == p.shape and array.dtype == p.dtype:
            return
        name = f"{type(self).__name__}.{' '.join(map(str, what))}"
        if got != p.shape:
            raise ShapeError(
                f"{name}: expected a vector of shape {p.shape}, as the parameters have,"
                f" got {got}"
            )
        raise DtypeError(
            f"{name}: expected {p.dtype}, as the parameters have, got {array.dtype}:"
            f" convert it with .astype('{p.dtype}')"
        )


def _all_transforms(
    name: str, transforms: Iterable[Transform]
) -> tuple[Transform, ...]:
    found = tuple(transforms) if isinstance(transforms, Iterable) else (None,)
    if not all(isinstance(transform, Transform) for transform in found):
        raise ConfigError(
            f"{name}: expected a list of transforms, got {transforms!r}: write"
            " transforms=[ClipNorm(1.0)]"
        )
    return found


def _places(params: Parameters, penalty: Penalty | None) -> tuple[slice, ...]:
    """Return where `penalty` acts in the vector, neighbours joined."""
    places: list[slice] = []
    everywhere = params.slices
    for path in penalty.paths(params) if penalty else ():
        place = everywhere[path]
        if places and places[-1].stop == place.start:
            place = slice(places.pop().start, place.stop)
        places.append(place)
    return tuple(places)


def _below(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    inside = (name for name in state if name.startswith(prefix))
    return {name.removeprefix(prefix): state[name] for name in inside}


def _blocks(p: Array, place: slice) -> Iterator[slice]:
    """Yield parts that stay in the cache; a device takes all at once."""
    length = BLOCK if isinstance(p, np.ndarray) else max(1, place.stop - place.start)
    for start in range(place.start, place.stop, length):
        yield slice(start, min(start + length, place.stop))


def _kept(array: Array) -> Any:
    """Return a copy on the host."""
    return np.array(backend_of(array).to_numpy(array))
