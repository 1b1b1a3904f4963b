"""What CUDA kernels are tested with, on a GPU and in its place: functions, shapes, and the kernels that must run."""

from typing import NamedTuple

import numpy as np
from kernels_and_texts import compare, derivatives
from optimizer_cases import SHAPES

from minigrad import Parameter, Tensor, functional, kernels, ops


class Case(NamedTuple):
    """A function of arrays of these shapes, and the kernels that its value and gradients are to come from."""

    name: str
    function: object
    shapes: tuple
    kernels: set
    order: int = 1
    draw: object = None

    def arrays(self):
        rng = np.random.default_rng(0)
        return [self.draw(rng, shape) if self.draw else rng.standard_normal(shape) for shape in self.shapes]


#: The largest error of a result, relative to its largest element.
TOLERANCES = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def dtypes():
    """The dtypes that the kernels take, as far as there are packages for them."""
    found = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16)}
    try:
        import ml_dtypes
    except ImportError:
        return found
    return {**found, "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def check(case, dtype, device="cuda"):
    compare(case.function, case.arrays(), TOLERANCES[dtype.name], dtype, device, order=case.order)


def distinct(rng, shape):
    """Numbers of which no two are equal in half precision, as far as there are so many."""
    return rng.permutation(int(np.prod(shape))).reshape(shape) / 64.0 - 3


def like(x, array):
    """An array as a Tensor of x's dtype, beside it."""
    return Tensor(np.asarray(array).astype(x.dtype), device=x.device)


def max_pool(shape, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, order=1):
    rank = len(shape) - 2
    run = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[rank - 1]
    name = f"max_pool {shape} {kernel} {stride} {padding} {dilation} {ceil_mode}"
    return Case(name, lambda x: run(x, kernel, stride, padding, dilation, ceil_mode), (shape,),
                {"max_pool", "scatter"} | ({"pick"} if order > 1 else set()), order, distinct)


def avg_pool(shape, kernel, stride=None, padding=0, ceil_mode=False, order=1):
    rank = len(shape) - 2
    run = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[rank - 1]
    return Case(f"avg_pool {shape} {kernel} {stride} {padding} {ceil_mode}",
                lambda x: run(x, kernel, stride, padding, ceil_mode), (shape,), {"sum_pool", "spread"}, order)


POOLING = [
    max_pool((2, 3, 8, 9), 2), max_pool((2, 3, 9, 8), 3, 2, 1, order=2), max_pool((3, 2, 7, 7), (3, 2), (1, 2), (1, 0)),
    max_pool((1, 2, 9, 11), 3, 2, 1, 2), max_pool((1, 2, 5, 6), 2, 3), max_pool((2, 2, 10, 10), 3, 2, 1, 1, True),
    max_pool((4, 5, 17), 3, 2, 1), max_pool((1, 2, 5, 6, 7), 2, order=2), max_pool((1, 1, 1, 1), 2, 1, 1, 1),
    max_pool((70, 30, 6, 6), 2), avg_pool((2, 3, 8, 9), 2), avg_pool((2, 3, 9, 8), 3, 2, 1, order=2),
    avg_pool((2, 2, 10, 10), 3, 2, 1, True), avg_pool((4, 5, 17), 4, 3), avg_pool((1, 2, 5, 6, 7), 2, 1, 1),
]


def conv(x, w, stride=1, padding=0, dilation=1, groups=1, bias=True, order=1):
    rank = len(x) - 2
    run = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    name = f"conv {x} {w} {stride} {padding} {dilation} {groups} {bias}"
    return Case(name, lambda *a: run(*a[:2], a[2] if bias else None, stride, padding, dilation, groups),
                (x, w, w[:1]) if bias else (x, w), {"im2col", "col2im", "exchange"}, order)


def transposed(x, w, stride=1, padding=0, output_padding=0, groups=1):
    return Case(f"conv_transpose {x} {w} {stride} {padding} {output_padding} {groups}",
                lambda x, w: functional.conv_transpose2d(x, w, None, stride, padding, output_padding, groups),
                (x, w), {"im2col", "col2im", "exchange"})


CONVOLUTIONS = [
    conv((3, 4, 8, 7), (5, 4, 3, 3), 1, 1), conv((3, 4, 9, 8), (6, 4, 3, 2), 2, 1, bias=False, order=2),
    conv((2, 3, 12, 11), (4, 3, 3, 3), (2, 1), (0, 2), (1, 2)), conv((3, 6, 7, 7), (4, 3, 3, 3), 1, 1, 1, 2, order=2),
    conv((2, 5, 6, 6), (5, 1, 3, 3), 1, 1, 1, 5), conv((4, 7, 5, 5), (3, 7, 1, 1)), conv((2, 3, 20), (4, 3, 5), 2, 2),
    conv((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), 1, 1), conv((1, 2, 4, 4), (2, 2, 4, 4)),
    transposed((2, 4, 5, 6), (4, 3, 3, 3), 2, 1, 1), transposed((2, 4, 5, 5), (4, 2, 3, 3), 1, 0, 0, 2),
]


def entropy(shape, reduce, scale=1.0, hard=False):
    rng = np.random.default_rng(3)
    q = rng.random(shape)
    if hard:  # one class each, some examples ignored
        q = (q == q.max(axis=1, keepdims=True)) * (rng.random((shape[0], 1, *shape[2:])) > 0.3)
    layout = "rows" if np.prod(shape[2:]) == 1 else "columns"
    kernels = {f"{layout}_forward", f"{layout}_backward"} | ({"total"} if reduce else set())
    return Case(f"cross_entropy {shape} {reduce} {scale} {hard}",
                lambda x: ops.cross_entropy(x, like(x, q / shape[0]), reduce), (shape,), kernels,
                draw=lambda rng, shape: rng.standard_normal(shape) * scale)


ENTROPY = [
    entropy((5, 10), True, hard=True), entropy((5, 10), False), entropy((70, 3), True, 30.0), entropy((1, 1), True),
    entropy((3, 1023), False), entropy((3, 1024), True, hard=True), entropy((2, 5000), False, 10.0),
    entropy((2, 5, 7), True), entropy((2, 4, 3, 5), False, hard=True), entropy((3, 40, 1, 1), True),
    entropy((2000, 2), True),
]


def elementwise(name, function, forward=True, size=(6, 8)):
    kernels = {f"{name}_backward"} | ({f"{name}_forward"} if forward else set())
    return Case(f"{name} {size}", function, (size,), kernels,
                draw=lambda rng, shape: rng.standard_normal(shape) * 3)


def dropped(size, p):
    kept = np.random.default_rng(5).random(size) >= p
    return Case(f"dropout {size} {p}", lambda x: ops.dropout(x, Tensor(kept, device=x.device), p), (size,), {"dropout"})


ELEMENTWISE = [
    elementwise("relu", ops.relu, False), elementwise("sigmoid", ops.sigmoid), elementwise("tanh", ops.tanh, False),
    elementwise("silu", ops.silu), elementwise("gelu", ops.gelu), elementwise("gelu_tanh", lambda x: ops.gelu(x, True)),
    elementwise("gelu", ops.gelu, size=(5, 7)), elementwise("relu", ops.relu, False, size=(100_001,)),
    dropped((6, 8), 0.3), dropped((5, 7), 0.5), dropped((4, 4), 1.0),
]

#: Stacks of matrices, and maps of them: for products that are not the kernels', but not simply CuPy's either.
PRODUCTS = [
    Case("linear (2, 3, 4)", ops.linear, ((2, 3, 4), (5, 4), (5,)), set(), 2),
    Case("linear (2, 1, 3, 4)", ops.linear, ((2, 1, 3, 4), (5, 4)), set()),
    Case("matmul (2, 3, 4) (2, 4, 5)", ops.matmul, ((2, 3, 4), (2, 4, 5)), set(), 2),
    Case("matmul (2, 1, 3, 4) (3, 4, 2)", ops.matmul, ((2, 1, 3, 4), (3, 4, 2)), set()),
    Case("matmul (2, 3, 4) (4, 2)", ops.matmul, ((2, 3, 4), (4, 2)), set()),
]

CASES = [*POOLING, *CONVOLUTIONS, *ENTROPY, *ELEMENTWISE, *PRODUCTS]


# ------------------------------------------------------------------ numbers that are none

def _scores():
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    x[0, 1], x[1, 2], x[2], x[3, 0], x[4] = np.nan, -np.inf, -np.inf, np.inf, 1e30
    return x


def _image():
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 6)).astype(np.float32)
    x[0, 0, 2, 3], x[0, 1, :3], x[0, 0, 5, 5] = np.nan, -np.inf, np.inf
    return x


ONE_HOT = np.eye(5)[[0, 0, 1, 2, 3, 4]]
#: Functions and inputs with NaN and infinities.
SPECIAL = {
    "cross_entropy": (lambda x: ops.cross_entropy(x, like(x, ONE_HOT), False), _scores),
    "max_pool": (lambda x: functional.max_pool2d(x, 3, 2, 1), _image),
    "avg_pool": (lambda x: functional.avg_pool2d(x, 3, 2, 1), _image),
    "relu": (ops.relu, _scores), "sigmoid": (ops.sigmoid, _scores), "silu": (ops.silu, _scores),
    "gelu": (ops.gelu, _scores), "gelu_tanh": (lambda x: ops.gelu(x, True), _scores),
}


def special(name, device="cuda"):
    """Assert that kernels give NaN and infinities where the text in float32 on the CPU does."""
    function, draw = SPECIAL[name]
    got = derivatives(function, [draw()], device=device)
    with kernels.disabled(), np.errstate(all="ignore"):
        wanted = derivatives(function, [draw()])
    for a, b in zip(got, wanted):
        assert np.allclose(a, b, 1e-5, 1e-6, equal_nan=True)


# ------------------------------------------------------------------ optimizers

def trained(cls, options, device, tier, dtype=np.float32, order="C", shapes=(*SHAPES, (50, 100)), steps=3):
    """All numbers that an optimizer has changed after some steps, and the optimizer."""
    rng = np.random.default_rng(0)
    draw = [[np.asarray(rng.standard_normal(shape).astype(dtype), order=order) for shape in shapes]
            for _ in range(steps + 1)]
    params = [Parameter(Tensor(a, device=device)) for a in draw[0]]
    optimizer = cls(params, **options)
    for gradients in draw[1:]:
        for p, g in zip(params, gradients):
            p.grad = Tensor(g, device=device)
        with kernels.tier(tier):
            optimizer.step()
    states = optimizer.state_dict()["state"].values()
    return [p.numpy() for p in params] + [np.asarray(s[key]) for s in states for key in sorted(s)], optimizer


def same_bits(cls, options, device="cuda", **more):
    """Assert that one launch for all parameters leaves every bit as the text on the CPU does."""
    got, optimizer = trained(cls, options, device, "all", **more)
    wanted, _ = trained(cls, options, "cpu", "text", **more)
    assert all(slot.listed is not None for slot in optimizer._slots.values())
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b, equal_nan=True)
