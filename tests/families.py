"""How to draw calls of each operation: shapes, axes and options, with the same call in plain NumPy.

An operation that has no rule here is drawn from its rows in `cases`, with their shapes.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import references as ref
from cases import CASES
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad import ops


class Call(NamedTuple):
    """One call: its arguments, and what it should be."""

    call: Callable[..., Any]
    arrays: list[np.ndarray]
    reference: Callable[..., Any]


ROWS: dict[str, list[Any]] = {}
for _case in CASES:
    ROWS.setdefault(_case.name, []).append(_case)

RULES: dict[str, Callable[..., Call]] = {}
seeds = st.integers(0, 2**16)


def rule(*names):
    """Register a function (draw, name) -> Call for these operations."""
    def register(function):
        RULES.update(dict.fromkeys(names, function))
        return function
    return register


def elements(draw, name, *shapes, of=0):
    """Arrays of these shapes, with the elements that the operation's rows ask for (away from kinks, positive, …)."""
    rng = np.random.default_rng(draw(seeds))
    inputs = ROWS[name][0].inputs
    return [np.asarray(inputs[min(of + i, len(inputs) - 1)].draw(rng, tuple(s))) for i, s in enumerate(shapes)]


def some_shape(draw, least=0, most=4, low=0, high=4):
    return draw(hnp.array_shapes(min_dims=least, max_dims=most, min_side=low, max_side=high)) if least or draw(
        st.booleans()) else draw(st.sampled_from([(), (1,), (max(low, 1), 2)]))


def any_axis(draw, ndim):
    return draw(st.integers(-ndim, ndim - 1))


def plain(name, reference, arrays, *args, **options):
    """A call whose arguments after the arrays are the same for both."""
    return Call(lambda *xs: getattr(ops, name)(*xs, *args, **options), arrays,
                lambda *xs: reference(*xs, *args, **options))


def elementwise(draw, name):
    case = draw(st.sampled_from(ROWS[name]))
    count = len(case.inputs)
    if count == 1 or name == "dropout":
        shapes = [draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))] * count
    else:
        shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=4, min_side=0,
                                                        max_side=4)).input_shapes
    return Call(case.call, case.draw(shapes, draw(seeds)), case.reference)


def from_rows(draw, name):
    case = draw(st.sampled_from(ROWS[name]))
    return Call(case.call, case.draw(seed=draw(seeds)), case.reference)


NUMPY = {"logsumexp": ref.logsumexp, "norm": ref.norm, "softmax": ref.softmax,
         "log_softmax": lambda x, axis=-1: np.log(ref.softmax(x, axis)), "argsort": ref.argsort, "flatten": ref.flatten}


@rule("sum", "mean", "max", "min", "var", "std", "prod", "logsumexp", "norm", "any", "all")
def reductions(draw, name):
    empty = name in ("sum", "prod", "any", "all")
    shape = some_shape(draw, 0, 4, 0 if empty else 1)
    axes = draw(st.none() | st.sets(st.integers(0, len(shape) - 1)).map(lambda s: tuple(sorted(s)))) if shape else None
    if axes is not None and name not in ("sum", "prod", "any", "all") and not axes:
        axes = None
    if axes is not None:
        axes = tuple(a - len(shape) * draw(st.booleans()) for a in axes)
        axes = axes[0] if len(axes) == 1 and draw(st.booleans()) else axes
    options = {"axis": axes, "keepdims": draw(st.booleans())}
    if name in ("var", "std"):
        options["correction"] = draw(st.sampled_from([0, 1]))
        ones = [shape[a] for a in (range(len(shape)) if axes is None else np.atleast_1d(axes))]
        assume(math.prod(ones) > 1)
    if name == "norm":
        options["ord"] = draw(st.sampled_from([1, 2, 3, 1.5, math.inf, -math.inf]))
        n = math.prod(shape)  # magnitudes apart from each other and from 0
        x = np.random.default_rng(draw(seeds)).permutation((0.5 + np.arange(n)) * (-1.0) ** np.arange(n)).reshape(shape)
        return plain(name, ref.norm, [x], **options)
    return plain(name, NUMPY.get(name) or getattr(np, name), elements(draw, name, shape), **options)


@rule("argmax", "argmin", "cumsum", "cumprod", "softmax", "log_softmax", "argsort", "sort")
def along(draw, name):
    shape = some_shape(draw, 1, 4, 1 if name not in ("cumsum", "cumprod") else 0)
    options = {"axis": any_axis(draw, len(shape))}
    if name in ("argsort", "sort"):
        options["descending"] = draw(st.booleans())
    if name == "sort":
        return Call(lambda x: ops.sort(x, **options), elements(draw, name, shape),
                    lambda x: np.take_along_axis(x, ref.argsort(x, **options), options["axis"]))
    if name in ("argmax", "argmin"):
        options = draw(st.sampled_from([{}, options, {**options, "keepdims": True}]))
    return plain(name, NUMPY.get(name) or getattr(np, name), elements(draw, name, shape), **options)


@rule("topk")
def topk(draw, name):
    shape = some_shape(draw, 1, 3, 1)
    axis = any_axis(draw, len(shape))
    k, largest = draw(st.integers(0, shape[axis])), draw(st.booleans())
    return Call(lambda x: ops.topk(x, k, axis, largest)[0], elements(draw, name, shape),
                lambda x: np.moveaxis(np.moveaxis(np.sort(x, axis) if not largest else -np.sort(-x, axis), axis,
                                                  0)[:k], 0, axis))


@rule("reshape", "permute_dims", "swapaxes", "moveaxis", "matrix_transpose", "expand_dims", "squeeze", "flatten",
      "broadcast_to", "flip", "roll", "tril", "triu", "tile", "repeat", "pad", "unstack", "split")
def rearranged(draw, name):
    least = 2 if name in ("matrix_transpose", "tril", "triu") else 1
    shape = list(some_shape(draw, least, 4, 1))
    n = len(shape)
    axis, number = any_axis(draw, n), draw(st.integers(-3, 3))
    options = {
        "reshape": lambda: {"shape": draw(st.sampled_from([(-1,), tuple(shape[::-1]), (1, *shape), (shape[0], -1),
                                                           (*shape, 1)]))},
        "permute_dims": lambda: {"axes": tuple(a - n * draw(st.booleans()) for a in draw(st.permutations(range(n))))},
        "swapaxes": lambda: {"axis1": axis, "axis2": any_axis(draw, n)},
        "moveaxis": lambda: {"source": axis, "destination": any_axis(draw, n)},
        "expand_dims": lambda: {"axis": draw(st.sampled_from([0, -1, (0, -1), (1, 2), n]))},
        "flip": lambda: {"axis": draw(st.sampled_from([None, axis, tuple(range(n))]))},
        "roll": lambda: draw(st.sampled_from([{"shift": number}, {"shift": number, "axis": axis},
                                              {"shift": (number, 1), "axis": (axis, 0)}])),
        "tril": lambda: {"k": number}, "triu": lambda: {"k": number},
        "tile": lambda: {"reps": draw(st.sampled_from([2, (2,), (1, 2), (2, 1, 1, 1, 2), (0,)]))},
        "repeat": lambda: draw(st.sampled_from([{"repeats": 2}, {"repeats": 2, "axis": axis},
                                                {"repeats": [i % 3 for i in range(shape[axis])], "axis": axis}])),
        "split": lambda: draw(st.sampled_from([(shape[axis], axis), ([1], axis), ([0, 2, 9], axis), (1, axis),
                                               ([], axis)])),
        "broadcast_to": lambda: {"shape": (2, *(3 if m == 1 else m for m in shape))},
    }.get(name, dict)()
    if name == "squeeze":
        shape[axis] = 1
        options = draw(st.sampled_from([{}, {"axis": axis}]))
    if name == "flatten":
        start = draw(st.integers(0, n - 1))
        options = {"start_dim": start, "end_dim": draw(st.integers(start, n - 1)) - n * draw(st.booleans())}
    if name == "pad":
        mode = draw(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]))
        options = {"pad_width": tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in shape), "mode": mode}
    arrays = elements(draw, name, shape)
    if name == "unstack":
        return Call(lambda x: ops.unstack(x, axis), arrays, lambda x: np.unstack(x, axis=axis))
    if name == "split":
        return Call(lambda x: tuple(ops.split(x, *options)), arrays, lambda x: np.split(x, *options))
    return plain(name, NUMPY.get(name) or getattr(np, name), arrays, **options)


@rule("concat", "stack")
def joined(draw, name):
    shape = some_shape(draw, 1, 3, 0)
    axis = any_axis(draw, len(shape))
    count = draw(st.integers(1, 3))
    shapes = [shape] * count
    if name == "concat":
        shapes = [tuple(draw(st.integers(0, 3)) if a == axis % len(shape) else m for a, m in enumerate(shape))
                  for _ in range(count)]
    return Call(lambda *xs: getattr(ops, name)(xs, axis), elements(draw, name, *shapes),
                lambda *xs: getattr(np, name)(xs, axis=axis))


@rule("getitem")
def getitem(draw, name):
    shape = some_shape(draw, 1, 3, 1)
    key = draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True) | hnp.integer_array_indices(
        shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)) | hnp.arrays(bool, shape))
    return Call(lambda x: ops.getitem(x, key), elements(draw, name, shape), lambda x: x[key])


@rule("index_add")
def index_add(draw, name):
    shape = some_shape(draw, 1, 3, 1)
    key = draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=4)))
    return plain(name, ref.index_add, elements(draw, name, np.empty(shape)[key].shape), key, shape)


def indices(draw, high, shape, low=0):
    return np.random.default_rng(draw(seeds)).integers(low, high, shape)


@rule("take")
def take(draw, name):
    shape = some_shape(draw, 1, 3, 1)
    axis = draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    n = math.prod(shape) if axis is None else shape[axis]
    i = indices(draw, n, some_shape(draw, 0, 2), -n)
    return Call(lambda x, i: ops.take(x, i, axis), [*elements(draw, name, shape), i], lambda x, i: np.take(x, i, axis))


@rule("take_along_axis", "gather", "scatter_add")
def picked(draw, name):
    shape = some_shape(draw, 1, 3, 1)
    axis = any_axis(draw, len(shape))
    where = axis % len(shape)
    other = [draw(st.integers(0, 5)) if a == where else n for a, n in enumerate(shape)]
    if name == "take_along_axis":
        i = indices(draw, shape[axis], [draw(st.sampled_from([1, n])) if a != where else n for a,
                                        n in enumerate(other)], -shape[axis])
        return Call(lambda x, i: ops.take_along_axis(x, i, axis), [*elements(draw, name, shape), i],
                    lambda x, i: np.take_along_axis(x, i, axis))
    other = [draw(st.integers(0, n)) if a != where else n for a, n in enumerate(other)]
    arrays = [*elements(draw, name, shape), indices(draw, shape[axis], other)]
    if name == "gather":
        return Call(lambda x, i: ops.gather(x, axis, i), arrays, lambda x, i: ref.gather(x, axis % x.ndim, i))
    arrays += elements(draw, name, [n + draw(st.integers(0, 1)) for n in other])
    return Call(lambda x, i, y: ops.scatter_add(x, axis, i, y), arrays, lambda x, i,
                y: ref.scatter_add(x, axis % x.ndim, i, y))


@rule("matmul", "outer", "linear", "einsum")
def products(draw, name):
    a, b, c = (draw(st.integers(0, 3)) for _ in range(3))
    lead = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3)).input_shapes
    if name == "matmul":
        shapes = draw(st.sampled_from([((*lead[0], a, b), (*lead[1], b, c)), ((b,), (*lead[1], b, c)),
                                       ((*lead[0], a, b), (b,)), ((b,), (b,))]))
        return plain(name, np.matmul, elements(draw, name, *shapes))
    if name == "outer":
        return plain(name, np.outer, elements(draw, name, (a, b), (c,)))
    if name == "linear":
        bias = draw(st.booleans())
        return plain(name, lambda x, w, *b: x @ w.T + (b[0] if b else 0),
                     elements(draw, name, (*lead[0], a), (b, a), (b,))[: 2 + bias])
    text, shapes = draw(st.sampled_from([
        ("ij,jk->ik", ((a, b), (b, c))), ("...i,...i->...", ((*lead[0], a), (*lead[1], a))), ("iji->j", ((a, b, a),)),
        ("ij,kj,k->i", ((a, b), (c, b), (c,))),
        ("ij->ji", ((a, b),)), ("ij,ij", ((a, b), (a, b))), ("i,j->ji", ((a,), (b,))), ("ij,j->", ((a, b), (1,))),
        ("ii,i->i", ((a, a), (a,)))]))
    return Call(lambda *xs: ops.einsum(text, *xs), elements(draw, name, *shapes), lambda *xs: np.einsum(text, *xs))


def window(draw, axes, low=1):
    """kernel, stride, padding, dilation and the lengths of an input that they fit."""
    kernel = tuple(draw(st.integers(low, 3)) for _ in range(axes))
    stride, dilation = (tuple(draw(st.integers(1, 2)) for _ in range(axes)) for _ in range(2))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    lengths = tuple(d * (k - 1) + 1 + draw(st.integers(0, 2)) for k, d in zip(kernel, dilation))
    return kernel, stride, padding, dilation, lengths


@rule("convolution", "convolution_transpose", "unfold", "fold", "max_pool", "avg_pool")
def spatial(draw, name):
    axes = draw(st.integers(1, 3 if name not in ("unfold", "fold") else 2))
    kernel, stride, padding, dilation, lengths = window(draw, axes)
    n, groups = draw(st.integers(0 if name != "convolution" else 1, 2)), draw(st.integers(1, 2))
    ins, outs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    if name == "convolution":
        options = {"stride": stride, "padding": tuple((p, draw(st.integers(0, 2))) for p in padding),
                   "dilation": dilation, "groups": groups}
        return plain(name, ref.convolution, elements(draw, name, (n, ins, *lengths), (outs, ins // groups, *kernel),
                                                     (outs,)), **options)
    if name == "convolution_transpose":
        more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
        least = [(m - 1) * s - 2 * p + d * (k - 1) + o + 1 for m, s, p, d, k,
                 o in zip(lengths, stride, padding, dilation, kernel, more)]
        assume(min(least) > 0)
        options = {"stride": stride, "padding": padding, "output_padding": more, "dilation": dilation, "groups": groups}
        return plain(name, ref.convolution_transpose, elements(draw, name, (n, ins, *lengths),
                                                               (ins, outs // groups, *kernel), (outs,)), **options)
    if name in ("max_pool", "avg_pool"):
        lengths = tuple(k + m for k, m in zip(kernel, lengths))
        choose, fill = (np.max, -math.inf) if name == "max_pool" else (np.mean, 0.0)
        call = (lambda x: ops.max_pool(x, kernel, stride, padding, (1,) * axes)[0]) if name == "max_pool" else (
            lambda x: ops.avg_pool(x, kernel, stride, padding))
        return Call(call, elements(draw, name, (n, ins, *lengths)),
                    lambda x: ref.pool(x, choose, fill, kernel, stride, padding))
    options = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    if name == "unfold":
        return plain(name, ref.unfold, elements(draw, name, (n, ins, *lengths)), **options)
    columns = ref.unfold(np.ones((n, ins, *lengths)), **options).shape
    return plain(name, ref.fold, elements(draw, name, columns), lengths, **options)


@rule("attention", "lstm_step", "gru_step")
def sequences(draw, name):
    lead = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=2))
    a, b, c, d = (draw(st.integers(1, 3)) for _ in range(4))
    if name == "attention":
        arrays = elements(draw, name, (*lead, a, b), (*lead, c, b), (*lead, c, d))
        seen = np.tril(np.ones((a, c), bool)) if draw(st.booleans()) else None
        return Call(lambda *xs: ops.attention(*xs, seen), arrays,
                    lambda *xs: ref.attention(*xs, 0.0 if seen is None else np.where(seen, 0.0, -np.inf)))
    if name == "lstm_step":
        return plain(name, ref.lstm_step, elements(draw, name, (*lead, 4 * a), (*lead, a)))
    return plain(name, ref.gru_step, elements(draw, name, (*lead, 3 * a), (*lead, 3 * a), (*lead, a)))


@rule("cross_entropy", "binary_cross_entropy")
def losses(draw, name):
    if name == "binary_cross_entropy":
        shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        return plain(name, ROWS[name][0].reference, elements(draw, name, shape, shape))
    shape = some_shape(draw, 2, 4, 1)
    return plain(name, ref.cross_entropy, elements(draw, name, shape, shape), reduce=draw(st.booleans()))


@rule("batch_norm", "batch_norm_inference", "layer_norm", "moments", "normalize", "scale_shift")
def normalizations(draw, name):
    n, c = draw(st.integers(3, 5)), draw(st.integers(1, 3))
    shape = (n, c, *draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3)))
    affine = draw(st.booleans())
    rng = np.random.default_rng(draw(seeds))
    x = rng.normal(size=shape) * 2 + 1
    along_c = (1, c, *(1,) * (len(shape) - 2))
    weights = [rng.normal(size=c), rng.normal(size=c)] if affine else []
    if name == "batch_norm":
        return Call(lambda *xs: ops.batch_norm(*xs)[:3], [x, *weights], lambda *xs: ref.batch_norm(*xs)[:3])
    if name == "batch_norm_inference":
        return plain(name, ref.batch_norm_inference, [x, rng.normal(size=c), rng.uniform(0.5, 2, c), *weights])
    if name == "layer_norm":
        count = draw(st.integers(1, len(shape) - 1))
        last = shape[-count:]
        assume(math.prod(last) > 1)
        weights = [rng.normal(size=last), rng.normal(size=last)] if affine else []
        return Call(lambda x, *wb: ops.layer_norm(x, last, *wb), [x, *weights], lambda x,
                    *wb: ref.layer_norm(x, count, *wb))
    if name == "moments":
        axes = (0, *range(2, len(shape)))
        return Call(lambda x: ops.moments(x, axes), [x], lambda x: (x.mean(axes, keepdims=True),
                                                                    x.var(axes, keepdims=True)))
    if name == "normalize":
        return plain(name, lambda x, m, r: (x - m) * r, [x, rng.normal(size=along_c), rng.uniform(0.5, 2, along_c)])
    weights = [rng.normal(size=c), rng.normal(size=c)]
    return Call(lambda *xs: ops.scale_shift(*xs, along_c), [x, *weights], lambda x, w,
                b: x * w.reshape(along_c) + b.reshape(along_c))


def call_of(draw, name):
    """A call of an operation: by its rule, or in any shape if it works element by element, or as in one of its rows."""
    if name in RULES:
        return RULES[name](draw, name)
    return elementwise(draw, name) if ROWS[name][0].elementwise else from_rows(draw, name)
