"""One table of the public operations with inputs for them. It drives the tests of values, gradients, shapes and dtypes.

A new operation is one row (`tests/ops/test_values.py` fails for one without a row):

    Case("tanh", ops.tanh, [normal(3, 4)], np.tanh, elementwise=True)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import references as ref

from minigrad import ops

NOT_OPERATIONS = {
    "astype": "another name of cast",
    "flat_indices": "a helper for the indices of max_pool, tested with it",
    "move": "needs a second device",
    "stop_gradient": "has no derivative by definition, tested with the engine",
}


@dataclass(frozen=True)
class Input:
    """How to draw one argument: `draw(rng, shape)` gives float64, int64 or bool."""

    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A call of one operation.

    name : its name in `minigrad.ops`
    call : takes the inputs; options are fixed in it
    inputs : how to draw each of them
    reference : the same in NumPy, in float64
    order : the highest order of derivative to check; 0 if there is none
    elementwise : every shape is right, and inputs broadcast against each other
    integers : also meaningful for integers, where the result has the dtype that NumPy's has
    batch : the first axis of the first input may have length 0
    option : told apart from other rows of the same name by this
    """

    name: str
    call: Callable[..., Any]
    inputs: list[Input]
    reference: Callable[..., Any]
    order: int = 3
    elementwise: bool = False
    integers: bool = False
    batch: bool = False
    option: str = ""

    def __str__(self) -> str:
        return f"{self.name}-{self.option}" if self.option else self.name

    def draw(self, shapes: Any = None, seed: int = 0) -> list[np.ndarray]:
        """The inputs, in other shapes if some are given."""
        rng = np.random.default_rng(seed)
        wanted = shapes or [i.shape for i in self.inputs]
        return [np.asarray(i.draw(rng, tuple(shape))) for i, shape in zip(self.inputs, wanted, strict=True)]


# ------------------------------------------------------------------ inputs


def normal(*shape, scale=1.0):
    return Input(lambda rng, s: rng.normal(size=s) * scale, shape)


def positive(*shape):
    """In [0.5, 2.5]."""
    return Input(lambda rng, s: rng.uniform(0.5, 2.5, s), shape)


def grid(*shape, start=0.05, step=0.1):
    """Distinct, apart by `step` and shuffled around 0, between the multiples of `step`, where kinks are put."""
    def draw(rng, s):
        n = math.prod(s)
        return rng.permutation((np.arange(n) - n // 2) * step + start).reshape(s)

    return Input(draw, shape)


def whole(low, high, *shape):
    return Input(lambda rng, s: rng.integers(low, high, s), shape)


def boolean(*shape):
    return Input(lambda rng, s: rng.integers(0, 2, s).astype(bool), shape)


def unary(name, reference, draw=normal, order=3, integers=True, option="", **options):
    call = getattr(ops, name)
    return Case(name, (lambda x: call(x, **options)) if options else call, [draw(3, 4)], reference, order,
                elementwise=True, integers=integers, option=option)


def binary(name, reference, first=normal, second=normal, order=3):
    return Case(name, getattr(ops, name), [first(3, 4), second(4)], reference, order, elementwise=True, integers=True)


def shifted(*shape):
    """A grid between the points of `grid`."""
    return grid(*shape, start=0.1)


def away(*shape):
    """Of both signs and far from 0; normal numbers divided by them are far from whole."""
    return Input(lambda rng, s: rng.uniform(6, 7, s) * rng.choice([-1, 1], s), shape)


def options(name, reference, draws, table, **facts):
    """Rows of one function for several sets of keyword arguments, which the reference takes as well."""
    call = getattr(ops, name)
    return [Case(name, lambda *xs, o=o: call(*xs, **o), draws, lambda *xs, o=o: reference(*xs, **o),
                 option=",".join(f"{k}={v}" for k, v in o.items()), **facts) for o in table]


# ------------------------------------------------------------------ the table

ELEMENTWISE = [
    unary("negative", np.negative),
    unary("exp", np.exp),
    unary("expm1", np.expm1),
    unary("log", np.log, positive, integers=False),
    unary("log1p", np.log1p, positive),
    unary("sqrt", np.sqrt, positive),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), positive, integers=False),
    unary("square", np.square),
    unary("sin", np.sin),
    unary("cos", np.cos),
    unary("tanh", np.tanh),
    unary("abs", np.abs, grid),
    unary("erf", ref.erf, lambda *s: normal(*s, scale=2), integers=False),
    unary("sign", np.sign, grid, order=0),
    unary("isnan", np.isnan, order=0),
    unary("isfinite", np.isfinite, order=0),
    unary("isinf", np.isinf, order=0),
    unary("reciprocal", lambda x: 1 / x, positive, integers=False),
    *(unary(name, getattr(np, name), grid, order=0, integers=False) for name in ("floor", "ceil", "round")),
    unary("round", lambda x: np.round(x, 1), normal, order=0, integers=False, decimals=1, option="decimals"),
    unary("nan_to_num", np.nan_to_num),
    unary("clone", np.copy),
    unary("cast", lambda x: x, dtype=np.longdouble, integers=False),
    unary("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    unary("relu", lambda x: np.maximum(x, 0), grid),
    unary("leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x), grid, negative_slope=0.2),
    unary("gelu", lambda x: 0.5 * x * (1 + ref.erf(x / math.sqrt(2)))),
    unary("gelu", ref.gelu_tanh, tanh=True, option="tanh"),
    unary("elu", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), grid),
    unary("elu", lambda x: np.where(x > 0, x, 0.3 * np.expm1(np.minimum(x, 0))), grid, alpha=0.3, option="alpha"),
    unary("hardtanh", lambda x: np.clip(x, -0.3, 0.2), grid, min_val=-0.3, max_val=0.2, integers=False),
    unary("mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    unary("logsigmoid", lambda x: -np.log1p(np.exp(-x))),
    unary("silu", lambda x: x / (1 + np.exp(-x))),
    unary("softplus", lambda x: np.log1p(np.exp(x))),
    unary("softplus", lambda x: np.where(2 * x > 1, x, np.log1p(np.exp(2 * x)) / 2), grid, beta=2, threshold=1,
          option="threshold"),
    unary("clip", lambda x: np.clip(x, -0.3, 0.2), grid, min=-0.3, max=0.2, option="numbers"),
    unary("clip", lambda x: np.maximum(x, -0.3), grid, min=-0.3, option="low"),
    unary("power", lambda x: x**3, normal, y=3, option="cube"),
    unary("power", lambda x: x**-1.5, positive, y=-1.5, integers=False, option="negative"),
    unary("full_like", lambda x: np.full_like(x, 3), order=0, fill=3),
    unary("zeros_like", np.zeros_like, order=0),
    unary("ones_like", np.ones_like, order=0),
    unary("logical_not", np.logical_not, boolean, order=0, integers=False),
    Case("power", lambda y: ops.power(2.0, y), [normal(3, 4)], lambda y: 2.0**y, elementwise=True, option="of 2"),
    Case("clip", ops.clip, [grid(3, 4), Input(lambda rng, s: np.full(s, -0.3), (4,)),
                            Input(lambda rng, s: np.full(s, 0.2), (3, 1))], np.clip, elementwise=True, option="arrays"),
    Case("dropout", lambda x, kept: ops.dropout(x, kept, 0.25), [normal(3, 4), boolean(3, 4)],
         lambda x, kept: x * kept / 0.75, elementwise=True),
]

ARITHMETIC = [
    binary("add", np.add),
    binary("subtract", np.subtract),
    binary("multiply", np.multiply),
    binary("divide", np.divide, second=positive),
    binary("remainder", np.remainder, grid, away),
    binary("floor_divide", np.floor_divide, normal, away, order=0),
    binary("maximum", np.maximum, grid, shifted),
    binary("minimum", np.minimum, grid, shifted),
    Case("power", ops.power, [positive(3, 4), normal(4)], np.power, elementwise=True),
    Case("where", ops.where, [boolean(3, 1), normal(3, 4), normal(4)], np.where, elementwise=True, integers=True),
    *(binary(name, getattr(np, name), order=0) for name in
      ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")),
    *(Case(name, getattr(ops, name), [boolean(3, 4), boolean(4)], getattr(np, name), 0, elementwise=True)
      for name in ("logical_and", "logical_or")),
]

_AXES = [{}, {"axis": 0}, {"axis": (-1, 0), "keepdims": True}]
_INDEX = [{}, {"axis": 0}, {"axis": -1, "keepdims": True}]
REDUCTIONS = [
    *options("sum", np.sum, [normal(2, 3, 2)], [*_AXES, {"axis": ()}], integers=True),
    *options("mean", np.mean, [normal(2, 3, 2)], _AXES, integers=True),
    *options("max", np.max, [grid(2, 3, 2)], _AXES, integers=True),
    *options("min", np.min, [grid(2, 3, 2)], _AXES, integers=True),
    *options("var", np.var, [normal(2, 3, 2)], [*_AXES, {"axis": 1, "correction": 1}], integers=True),
    *options("std", np.std, [normal(2, 3, 2)], [*_AXES, {"axis": 1, "correction": 1}], integers=True),
    *options("prod", np.prod, [normal(2, 3, 2)], [*_AXES, {"axis": ()}], integers=True),
    *options("cumsum", np.cumsum, [normal(2, 3, 2)], [{}, {"axis": 0}, {"axis": -2}], integers=True),
    *options("cumprod", np.cumprod, [normal(2, 3, 2)], [{}, {"axis": 0}, {"axis": -2}], integers=True),
    *options("norm", ref.norm, [grid(2, 3, 2)], [{}, {"axis": 0}, {"ord": 1}, {"ord": math.inf, "axis": (-1, 0)},
                                                {"ord": -math.inf, "axis": 1}, {"ord": 3, "keepdims": True},
                                                {"ord": 4, "axis": 1}]),
    *options("norm", ref.norm, [positive(2, 3, 2)], [{"ord": 0.5, "axis": (0, 2)}]),
    *options("norm", ref.norm, [grid(2, 3, 2)], [{"ord": 0}], order=0),
    *options("argmax", np.argmax, [grid(2, 3, 2)], _INDEX, order=0, integers=True),
    *options("argmin", np.argmin, [grid(2, 3, 2)], _INDEX, order=0, integers=True),
    *options("any", np.any, [whole(0, 2, 2, 3, 2)], _AXES, order=0, integers=True),
    *options("all", np.all, [whole(0, 2, 2, 3, 2)], _AXES, order=0, integers=True),
    *options("logsumexp", ref.logsumexp, [normal(2, 3, 2)], _AXES),
    *options("softmax", ref.softmax, [normal(3, 4)], [{}, {"axis": 0}], integers=True),
    *options("log_softmax", lambda x, axis=-1: np.log(ref.softmax(x, axis)), [normal(3, 4)], [{}, {"axis": 0}],
             integers=True),
    *options("cross_entropy", ref.cross_entropy, [normal(3, 4, 2), positive(3, 4, 2)],
             [{"reduce": True}, {"reduce": False}], batch=True),
]

SHAPES = [
    *options("reshape", np.reshape, [normal(2, 3, 2)], [{"shape": (4, 3)}, {"shape": (2, -1)}, {"shape": 12}],
             integers=True),
    *options("permute_dims", np.permute_dims, [normal(2, 3, 2)], [{"axes": (2, 0, 1)}, {"axes": (-1, 0, 1)}],
             integers=True),
    *options("swapaxes", np.swapaxes, [normal(2, 3, 2)], [{"axis1": 0, "axis2": -2}], integers=True),
    *options("moveaxis", np.moveaxis, [normal(2, 3, 2)], [{"source": 0, "destination": -1}], integers=True),
    *options("matrix_transpose", np.matrix_transpose, [normal(2, 3, 2)], [{}], integers=True),
    *options("broadcast_to", np.broadcast_to, [normal(3, 1)], [{"shape": (2, 3, 4)}, {"shape": (3, 1)}], integers=True),
    *options("expand_dims", np.expand_dims, [normal(2, 3)], [{"axis": 1}, {"axis": (0, -1)}], integers=True),
    *options("squeeze", np.squeeze, [normal(1, 3, 1)], [{}, {"axis": 0}, {"axis": (0, -1)}], integers=True),
    *options("flatten", ref.flatten, [normal(2, 3, 2)], [{}, {"start_dim": 1}, {"start_dim": 0, "end_dim": 1}],
             integers=True, batch=True),
    Case("concat", lambda *xs: ops.concat(xs, 1), [normal(2, 3), normal(2, 1)], lambda *xs: np.concat(xs, axis=1),
         integers=True),
    Case("stack", lambda *xs: ops.stack(xs, 1), [normal(2, 3), normal(2, 3)], lambda *xs: np.stack(xs, axis=1),
         integers=True),
    Case("concat", lambda *xs: ops.concat(xs, None), [normal(2, 3), normal(2)],
         lambda *xs: np.concat(xs, axis=None), integers=True, option="flat"),
]

ORDER = [
    *options("argsort", ref.argsort, [grid(3, 4)], [{}, {"axis": 0, "descending": True}], order=0, integers=True),
    *options("sort", lambda x, **o: np.take_along_axis(x, ref.argsort(x, **o), o.get("axis", -1)), [grid(3, 4)],
             [{}, {"axis": 0, "descending": True}], integers=True),
    Case("topk", lambda x: ops.topk(x, 2, 1)[0], [grid(3, 4)], lambda x: -np.sort(-x, 1)[:, :2], integers=True),
    Case("topk", lambda x: ops.topk(x, 2, 0, largest=False)[0], [grid(3, 4)], lambda x: np.sort(x, 0)[:2],
         option="smallest"),
    Case("topk", lambda x: ops.topk(x, 3)[1], [grid(3, 4)], lambda x: np.argsort(-x, 1)[:, :3], order=0,
         option="indices"),
]

REARRANGED = [
    *(Case("split", lambda x, o=o: tuple(ops.split(x, *o)), [normal(4, 3, 2)], lambda x, o=o: np.split(x, *o),
           integers=True, option=str(o))
      for o in ((2,), ([1, 3],), ([1], -2), (1, 1), ([0, 2, 9], 1), ([1, 9, -1],), ([3, 1],))),
    Case("unstack", lambda x: ops.unstack(x, 1), [normal(2, 3, 2)], lambda x: np.unstack(x, axis=1), integers=True),
    *options("flip", np.flip, [normal(2, 3, 2)], [{}, {"axis": 0}, {"axis": (1, -1)}], integers=True),
    *options("roll", np.roll, [normal(2, 3, 2)], [{"shift": 4}, {"shift": -1, "axis": 1},
                                                 {"shift": (1, 2), "axis": (0, -1)}], integers=True),
    *options("repeat", np.repeat, [normal(2, 3)], [{"repeats": 2}, {"repeats": 3, "axis": 0}, {"repeats": 0, "axis": 1},
                                                  {"repeats": [2, 0, 1], "axis": -1}], integers=True),
    *options("tile", np.tile, [normal(2, 3)], [{"reps": 2}, {"reps": (2, 1, 3)}, {"reps": (2, 0)}], integers=True),
    *options("tril", np.tril, [normal(2, 3, 4)], [{}, {"k": 1}, {"k": -1}], integers=True),
    *options("triu", np.triu, [normal(2, 3, 4)], [{}, {"k": 1}, {"k": -1}], integers=True),
    *options("pad", np.pad, [normal(3, 4)], [{"pad_width": 2}, {"pad_width": ((1, 0), (0, 2)), "constant_values": 3},
                                            *({"pad_width": ((1, 2), (3, 0)), "mode": mode}
                                              for mode in ("edge", "reflect", "symmetric", "wrap"))], integers=True),
]

_KEYS = {
    "integer": 1, "slice": slice(None, None, -2), "new axis": (Ellipsis, None, 0), "array": np.array([2, 0, 2]),
    "list": [0, 0], "mask": np.array([True, False, True]), "pairs": (np.array([0, 0, 2]), np.array([1, 1, 3])),
    "tuple": ((1, 1), slice(1, 3)), "numpy integer": np.int64(-1), "empty": [],
}
INDEXING = [
    *(Case("getitem", lambda x, k=k: ops.getitem(x, k), [normal(3, 4)], lambda x, k=k: x[k], integers=True, option=name)
      for name, k in _KEYS.items()),
    *(Case("index_add", lambda x, k=k: ops.index_add(x, k, (5, 2)), [normal(3, 2)],
           lambda x, k=k: ref.index_add(x, k, (5, 2)), integers=True, option=name)
      for name, k in {"array": np.array([4, 0, 4]), "list": [1, 1, 0], "slice": slice(1, 4)}.items()),
]

INDEXING += [
    *(Case("take", lambda x, i, a=a: ops.take(x, i, a), [normal(3, 4, 2), whole(-3, 3, *shape)],
           lambda x, i, a=a: np.take(x, i, a), integers=True, option=f"{shape} of axis {a}")
      for shape, a in (((5,), 0), ((2, 2), 1), ((), 0), ((3,), None), ((0,), 0))),
    *(Case("take_along_axis", lambda x, i, a=a: ops.take_along_axis(x, i, a), [normal(3, 4), whole(-3, 3, *shape)],
           lambda x, i, a=a: np.take_along_axis(x, i, a), integers=True, option=f"{shape}, axis {a}")
      for shape, a in (((2, 4), 0), ((3, 6), -1), ((1, 2), 1), ((3, 0), 1))),
    *(Case("gather", lambda x, i, a=a: ops.gather(x, a, i), [normal(3, 4), whole(0, 3, *shape)],
           lambda x, i, a=a: ref.gather(x, a, i), integers=True, option=f"{shape}, axis {a}")
      for shape, a in (((5, 3), 0), ((2, 6), 1), ((3, 4), 1))),
    *(Case("scatter_add", lambda x, i, y, a=a: ops.scatter_add(x, a, i, y),
           [normal(3, 4), whole(0, 3, *shape), normal(5, 6)],
           lambda x, i, y, a=a: ref.scatter_add(x, a, i, y), integers=True, option=f"{shape}, axis {a}")
      for shape, a in (((5, 3), 0), ((2, 6), 1), ((3, 4), 1))),
]

_EINSUMS = {
    "ij,jk->ik": [(2, 3), (3, 4)], "ij,jk": [(2, 3), (3, 4)], "ij->ji": [(2, 3)], "ij->": [(2, 3)], "ii->i": [(3, 3)],
    "iij,jk->k": [(2, 2, 3), (3, 2)], "i,j,k->ikj": [(2,), (3,), (2,)], "b...d,bd...->...b": [(2, 3, 2), (2, 2, 3)],
    "...ij,...jk->...ik": [(2, 2, 3), (3, 2)], "ij,j": [(2, 3), (1,)], "ab,ab,ab->a": [(2, 3), (2, 3), (2, 3)],
    ",i->i": [(), (3,)],
}
_MATMUL = [((2, 3), (3, 4)), ((2, 2, 3), (3, 2)), ((2, 1, 2, 3), (3, 3, 2)), ((3,), (3, 2)), ((2, 3), (3,)),
           ((3,), (3,))]
PRODUCTS = [
    *(Case("matmul", ops.matmul, [normal(*a), normal(*b)], np.matmul, integers=True, option=f"{a}@{b}")
      for a, b in _MATMUL),
    *(Case("einsum", lambda *xs, t=text: ops.einsum(t, *xs), [normal(*s) for s in shapes],
           lambda *xs, t=text: np.einsum(t, *xs), integers=True, option=text) for text, shapes in _EINSUMS.items()),
    Case("outer", ops.outer, [normal(2, 3), normal(4)], np.outer, integers=True),
    Case("linear", ops.linear, [normal(3, 4), normal(2, 4), normal(2)], lambda x, w, b: x @ w.T + b, batch=True),
    Case("linear", ops.linear, [normal(2, 3, 4), normal(2, 4)], lambda x, w: x @ w.T, option="no bias", batch=True),
    Case("linear", ops.linear, [normal(4), normal(2, 4), normal(2)], lambda x, w, b: x @ w.T + b, option="vector"),
    Case("linear", ops.linear, [normal(3, 4), normal(4), normal()], lambda x, w, b: x @ w + b, option="one output"),
]


def _convolution(x, w, b, **o):
    given = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1} | o
    return ops.convolution(x, w, b, **given)


_CONVOLUTIONS = {
    "plain": ([normal(2, 2, 4, 4), normal(3, 2, 2, 3), normal(3)], {}),
    "all options": ([normal(2, 4, 5, 4), normal(4, 2, 2, 2), normal(4)],
                    {"stride": (2, 1), "padding": ((1, 0), (1, 2)), "dilation": (1, 2), "groups": 2}),
}
_UNFOLD = {"kernel": (2, 3), "stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)}
_TRANSPOSED = {
    "plain": ([normal(2, 2, 2, 3), normal(2, 3, 2, 3), normal(3)],
              {"stride": (1, 1), "padding": (0, 0), "output_padding": (0, 0), "dilation": (1, 1), "groups": 1}),
    "all options": ([normal(2, 4, 2, 3), normal(4, 1, 3, 2), normal(2)],
                    {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2), "dilation": (1, 2), "groups": 2}),
    "longer than the padding": ([normal(1, 2, 3), normal(2, 2, 2), normal(2)],
                                {"stride": (1,), "padding": (1,), "output_padding": (2,), "dilation": (3,),
                                 "groups": 1}),
}
_POOL = {"kernel": (2, 3), "stride": (2, 1), "padding": (1, 1)}
SPATIAL = [
    *(Case("convolution", lambda *xs, o=o: _convolution(*xs, **o), draws, lambda *xs, o=o: ref.convolution(*xs, **o),
           batch=True, option=name) for name, (draws, o) in _CONVOLUTIONS.items()),
    *(Case("convolution_transpose", lambda *xs, o=o: ops.convolution_transpose(*xs, **o), draws,
           lambda *xs, o=o: ref.convolution_transpose(*xs, **o), batch=True, option=name)
      for name, (draws, o) in _TRANSPOSED.items()),
    Case("unfold", lambda x: ops.unfold(x, **_UNFOLD), [normal(2, 2, 4, 5)], lambda x: ref.unfold(x, **_UNFOLD),
         batch=True, integers=True),
    Case("fold", lambda x: ops.fold(x, (4, 5), **_UNFOLD), [normal(2, 12, 8)], lambda x: ref.fold(x, (4, 5), **_UNFOLD),
         batch=True, integers=True),
    Case("max_pool", lambda x: ops.max_pool(x, **_POOL, dilation=(1, 1))[0], [grid(2, 2, 4, 4)],
         lambda x: ref.pool(x, np.max, -np.inf, **_POOL), batch=True),
    Case("avg_pool", lambda x: ops.avg_pool(x, **_POOL), [normal(2, 2, 4, 4)],
         lambda x: ref.pool(x, np.mean, 0.0, **_POOL), batch=True),
]

_MASK = np.array([[True, True, True, False], [True, False, False, False], [True, True, True, True]])
_MASK_OF_FEATURES = np.array([[True, True, False, True], [True, False, False, True], [False, False, False, False]])

NORMALIZATIONS = [
    Case("batch_norm", ops.batch_norm, [normal(6, 2)], ref.batch_norm, order=4),
    Case("batch_norm", ops.batch_norm, [normal(3, 2, 2, 2), normal(2), normal(2)], ref.batch_norm, option="images"),
    Case("batch_norm", lambda x, b: ops.batch_norm(x, None, b), [normal(6, 2), normal(2)],
         lambda x, b: ref.batch_norm(x, None, b), option="bias alone"),
    Case("linear_batch_norm", lambda *xs: ops.linear_batch_norm(*xs, 1e-5, "sigmoid"),
         [normal(6, 3), normal(2, 3), normal(2), normal(2), normal(2)], ref.linear_batch_norm),
    Case("batch_norm_inference", ops.batch_norm_inference, [normal(3, 2), normal(2), positive(2), normal(2), normal(2)],
         ref.batch_norm_inference, order=4, batch=True),
    Case("batch_norm_inference", ops.batch_norm_inference, [normal(3, 2, 2, 2), normal(2), positive(2)],
         ref.batch_norm_inference, option="images", batch=True),
    Case("layer_norm", lambda x, w, b: ops.layer_norm(x, 4, w, b), [normal(3, 4), normal(4), normal(4)],
         lambda x, w, b: ref.layer_norm(x, 1, w, b), batch=True),
    Case("layer_norm", lambda x: ops.layer_norm(x, (3, 2)), [normal(2, 3, 2)], lambda x: ref.layer_norm(x, 2),
         option="two axes", batch=True),
    Case("layer_norm", lambda x, w, b: ops.layer_norm(x, 4, w, b, mask=_MASK_OF_FEATURES),
         [normal(3, 4), normal(4), normal(4)],
         lambda x, w, b: ref.masked_norm(x, _MASK_OF_FEATURES, (1,), (4,), w, b), option="mask"),
    Case("batch_norm", lambda x, w, b: ops.batch_norm(x, w, b, mask=_MASK)[0], [normal(3, 2, 4), normal(2), normal(2)],
         lambda x, w, b: ref.masked_norm(x, _MASK[:, None], (0, 2), (1, 2, 1), w, b), option="mask"),
    Case("batch_norm_inference", lambda *xs: ops.batch_norm_inference(*xs, mask=_MASK),
         [normal(3, 2, 4), normal(2), positive(2), normal(2), normal(2)],
         lambda *xs: ref.batch_norm_inference(*xs) * _MASK[:, None], option="mask"),
    Case("instance_norm", ops.instance_norm, [normal(2, 2, 3), normal(2), normal(2)], ref.instance_norm),
    Case("instance_norm", ops.instance_norm, [normal(2, 2, 2, 3)], ref.instance_norm, option="images"),
    Case("group_norm", lambda x, w, b: ops.group_norm(x, 2, w, b), [normal(2, 4, 3), normal(4), normal(4)],
         lambda x, w, b: ref.group_norm(x, 2, w, b), batch=True),
    Case("group_norm", lambda x: ops.group_norm(x, 2), [normal(2, 6)], lambda x: ref.group_norm(x, 2),
         option="features", batch=True),
    Case("rms_norm", lambda x, w: ops.rms_norm(x, 4, w, 1e-5), [normal(3, 4), normal(4)],
         lambda x, w: ref.rms_norm(x, 1, w), order=4, batch=True),
    Case("rms_norm", lambda x: ops.rms_norm(x, (3, 2), None, 1e-5), [normal(2, 3, 2)], lambda x: ref.rms_norm(x, 2),
         option="two axes", batch=True),
    Case("local_response_norm", lambda x: ops.local_response_norm(x, 3, 0.5), [normal(2, 5)],
         lambda x: ref.local_response_norm(x, 3, 0.5), order=4, batch=True),
    Case("local_response_norm", lambda x: ops.local_response_norm(x, 4, 2.0, 0.5, 2.0), [normal(2, 5, 2)],
         lambda x: ref.local_response_norm(x, 4, 2.0, 0.5, 2.0), option="even", batch=True),
    Case("mean_square", lambda x: ops.mean_square(x, (0, 2)), [normal(3, 2, 2)],
         lambda x: (x * x).mean((0, 2), keepdims=True)),
    Case("inverse_std", lambda v: ops.inverse_std(v, 0.1), [positive(3, 2)], lambda v: 1 / np.sqrt(v + 0.1)),
    Case("moments", lambda x: ops.moments(x, (0, 2)), [normal(3, 2, 2)],
         lambda x: (x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True))),
    Case("normalize", ops.normalize, [normal(3, 2), normal(1, 2), positive(1, 2)], lambda x, m, r: (x - m) * r,
         batch=True),
    Case("scale_shift", lambda x, w, b: ops.scale_shift(x, w, b, (1, 2, 1)), [normal(3, 2, 2), normal(2), normal(2)],
         lambda x, w, b: x * w[:, None] + b[:, None], batch=True),
]

def probability(*shape):
    """In [0.1, 0.9]."""
    return Input(lambda rng, s: rng.uniform(0.1, 0.9, s), shape)


_SEES = np.array([[True, True, False], [False, True, True]])
SEQUENCES = [
    Case("attention", ops.attention, [normal(2, 2, 3), normal(2, 4, 3), normal(2, 4, 2)],
         ref.attention,
         batch=False),
    Case("attention", lambda q, k, v, m: ops.attention(q, k, v, m, scale=0.3),
         [normal(2, 3), normal(3, 3), normal(3, 2),
                                                                             normal(2, 3)],
         lambda q, k, v, m: ref.attention(q, k, v, m, 0.3), option="numbers as mask"),
    Case("attention", lambda q, k, v: ops.attention(q, k, v, _SEES), [normal(2, 3), normal(2, 3, 3), normal(3, 2)],
         lambda q, k, v: ref.attention(q, k, v, np.where(_SEES, 0, -np.inf)), option="mask"),
    Case("attention", lambda q, k, v, kept: ops.attention(q, k, v, None, kept, p=0.25)[0],
         [normal(2, 3), normal(3, 3), normal(3, 2), boolean(2, 3)],
         lambda q, k, v, kept: (ref.attention(q, k, v)[1] * kept / 0.75) @ v, option="dropout"),
    Case("lstm_step", ops.lstm_step, [normal(2, 12), normal(2, 3)], ref.lstm_step, batch=False),
    Case("gru_step", ops.gru_step, [normal(2, 9), normal(2, 9), normal(2, 3)], ref.gru_step),
    Case("binary_cross_entropy", ops.binary_cross_entropy, [probability(3, 4), probability(3, 4)],
         lambda x, t: -(t * np.log(x) + (1 - t) * np.log1p(-x))),
]

CASES = [*ELEMENTWISE, *ARITHMETIC, *REDUCTIONS, *ORDER, *SHAPES, *REARRANGED, *INDEXING, *PRODUCTS, *SPATIAL,
         *SEQUENCES, *NORMALIZATIONS]


def relative(found, reference):
    """max |difference| ÷ max |reference|, the measure of error in all tests; the difference itself where all is 0."""
    found, reference = np.asarray(found), np.asarray(reference)
    assert found.shape == reference.shape, f"shape {found.shape} instead of {reference.shape}"
    if reference.size == 0:
        return 0.0
    if reference.dtype.kind == "b":
        return float(np.max(found != reference))
    wide = np.longdouble if reference.dtype.itemsize > 8 else np.float64
    found, reference = found.astype(wide), reference.astype(wide)
    return float(np.abs(found - reference).max() / (np.abs(reference).max() or 1.0))


def as_tuple(x):
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)
