"""Calls of a traced step in another order, or two as one, for the same bits.

ReLU grows with its input, so the largest of a window's ReLUs is the ReLU of the
largest. After the pooling there are a quarter of the numbers, both ways. And a bias is
added to what a convolution gives while that is in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sillar.backends.base import Array, Window
from sillar.backends.numpy.convolution import conv_bias


def simplified(trace: Any, calls: Sequence[Any]) -> list[Any]:
    """Return calls that do the same as these."""
    calls = _Calls(trace, calls).with_relu_after_pooling()
    return _Calls(trace, calls).with_bias_in_convolution()


class _Fused(NamedTuple):
    """What takes the place of a primitive."""

    forward: Callable[..., Array]
    name: str


def _conv_bias(
    xp: Any, x: Array, w: Array, bias: Array, *, window: Window, groups: int
) -> Array:
    return conv_bias(x, w, bias, window, groups)


CONV_BIAS = _Fused(_conv_bias, "conv_bias")


class _Back(NamedTuple):
    """How a gradient goes back through the pooling and then through the ReLU."""

    unpool: Any
    compare: Any
    cast: Any
    multiply: Any


class _Calls:
    """The calls of a trace: who makes a value, and who uses it."""

    def __init__(self, trace: Any, calls: Sequence[Any]) -> None:
        self.kinds, self.calls = trace.kinds, calls
        self.makers = {c.output: c for c in calls if c.output is not None}
        self.users: dict[int, list[Any]] = {i: [None] for i in trace.outputs}
        for call in calls:
            for i in call.inputs:
                if not isinstance(i, tuple):
                    self.users.setdefault(i, []).append(call)

    def with_relu_after_pooling(self) -> list[Any]:
        """Return the calls with ReLU after each max-pooling that alone needs it."""
        instead: dict[int, list[Any]] = {}
        for call in self.calls:
            if _name(call) == "relu":
                instead |= self._moved(call)
        return self._with(instead)

    def with_bias_in_convolution(self) -> list[Any]:
        """Return the calls with each bias added by the convolution before it."""
        instead: dict[int, list[Any]] = {}
        for call in self.calls:
            conv, bias = self._biased(call) if _name(call) == "add" else (None, None)
            if conv is not None:
                both = conv._replace(primitive=CONV_BIAS)
                both = _with(both, call.output, *conv.inputs, bias)
                instead |= {conv.output: [], call.output: [both]}
        return self._with(instead)

    def _biased(self, add: Any) -> tuple[Any, Any]:
        """Return the convolution to whose result a bias is added, and the bias."""
        for i, bias in (add.inputs, add.inputs[::-1]):
            conv = None if isinstance(i, tuple) else self.makers.get(i)
            if conv is None or _name(conv) != "conv" or isinstance(bias, tuple):
                continue
            shape, dtype = self.kinds[conv.output]
            alone = self._only_user(conv) is add and bias not in self.makers
            if alone and self.kinds[bias] == (shape[-1:], dtype):
                return conv, bias
        return None, None

    def _with(self, instead: dict[int, list[Any]]) -> list[Any]:
        """Return the calls; instead of some, by their outputs, others."""
        found = ((call, instead.get(call.output)) for call in self.calls)
        return [c for call, new in found for c in ([call] if new is None else new)]

    def _moved(self, relu: Any) -> dict[int, list[Any]]:
        """Return what takes the places of some calls, nothing if ReLU has to stay."""
        users = self.users.get(relu.output, [])
        pools = [call for call in users if _name(call) == "max_pool"]
        if len(pools) != 1:
            return {}
        (pool,) = pools
        found = [self._back(call, relu, pool) for call in users if call is not pool]
        backs = [back for back in found if back is not None]
        if len(backs) < len(found):
            return {}
        x, y = relu.inputs[0], pool.output
        largest = self._new(self.kinds[y])
        moved: dict[int, list[Any]] = {relu.output: []}
        moved[y] = [_with(pool, largest, x), _with(relu, y, largest)]
        for back in backs:
            truth, mask, g = (
                self._new((self.kinds[y][0], self.kinds[call.output][1]))
                for call in back[1:]
            )
            moved |= {call.output: [] for call in back[:3]}
            moved[back.multiply.output] = [
                _with(back.compare, truth, y, *back.compare.inputs[1:]),
                _with(back.cast, mask, truth),
                _with(back.multiply, g, back.unpool.inputs[0], mask),
                _with(back.unpool, back.multiply.output, g, x),
            ]
        return moved

    def _back(self, unpool: Any, relu: Any, pool: Any) -> _Back | None:
        """Return the calls on the way back that begin with `unpool`, if they do."""
        r = relu.output
        if _name(unpool) != "max_unpool" or unpool.static != pool.static:
            return None
        multiply = self._only_user(unpool)
        if unpool.inputs[1] != r or unpool.inputs[0] == r or multiply is None:
            return None
        if _name(multiply) != "multiply" or multiply.inputs[0] != unpool.output:
            return None
        cast = self.makers.get(multiply.inputs[1])
        if cast is None or _name(cast) != "astype":
            return None
        compare = self.makers.get(cast.inputs[0])
        if compare is None or _name(compare) != "greater":
            return None
        alone = self._only_user(cast) is multiply and self._only_user(compare) is cast
        if not alone or compare.inputs != (*relu.inputs, (0,)):
            return None
        return _Back(unpool, compare, cast, multiply)

    def _only_user(self, call: Any) -> Any:
        users = self.users.get(call.output, [])
        return users[0] if len(users) == 1 else None

    def _new(self, kind: Any) -> int:
        self.kinds.append(kind)
        return len(self.kinds) - 1


def _with(call: Any, output: int, *inputs: Any) -> Any:
    return call._replace(inputs=inputs, output=output)


def _name(call: Any) -> str:
    return "" if call is None or call.primitive is None else str(call.primitive.name)
