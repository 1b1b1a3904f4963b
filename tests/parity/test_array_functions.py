"""Array functions against torch's: values, gradients of first and second order, over options, ranks and layouts."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import oracle  # noqa: E402
from oracle import agree, draw  # noqa: E402

import minigrad as mg  # noqa: E402
from minigrad import ops  # noqa: E402
from minigrad.errors import MinigradError  # noqa: E402

LAYOUTS = pytest.mark.parametrize("layout", [None, oracle.strided], ids=["contiguous", "strided"])
SHAPES = [(), (0,), (5,), (2, 0, 3), (3, 4)]
POSITIVE = ("log", "log1p", "sqrt", "rsqrt", "reciprocal")
UNARY = {"abs", "cos", "erf", "exp", "expm1", "relu", "sigmoid", "sign", "sin", "square", "tanh", "floor", "ceil",
         "round", "nan_to_num", "isnan", "isfinite", "isinf", *POSITIVE}


@LAYOUTS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", sorted(UNARY))
def test_elementwise(name, shape, layout):
    x = draw(*shape)
    agree(getattr(mg, name), getattr(torch, name), [np.abs(x) + 0.5 if name in POSITIVE else x], layout=layout)


@pytest.mark.parametrize("name", ["abs", "relu", "sign", "floor", "ceil", "round", "nan_to_num", "square", "tanh"])
def test_elementwise_at_special_places(name):
    x = np.array([0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1.0, 6.0, np.inf, -np.inf, *[np.nan] * (name == "nan_to_num")])
    agree(getattr(mg, name), getattr(torch, name), [x], orders=0 if name == "square" else 1)


@pytest.mark.parametrize("decimals", [-1, 0, 2])
def test_round_to_decimals(decimals):
    agree(lambda x: x.round(decimals), lambda x: x.round(decimals=decimals), [draw(20) * 30])


def test_replacements():
    x = np.array([1.0, np.nan, np.inf, -np.inf])
    agree(lambda t: ops.nan_to_num(t, 2.0, 3.0, -4.0), lambda t: torch.nan_to_num(t, 2.0, 3.0, -4.0), [x])


PAIRS = [((), ()), ((3, 4), (4,)), ((3, 1), (1, 4)), ((2, 1, 3), (4, 1)), ((0, 3), (1,)), ((5,), ())]
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")


@LAYOUTS
@pytest.mark.parametrize("shapes", PAIRS, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_broadcasting(name, shapes, layout):
    x, y = draw(*shapes[0]), draw(*shapes[1], seed=1)
    agree(getattr(mg, name), getattr(torch, name), [x, np.abs(y) + 0.5 if name == "divide" else y], layout=layout)


@pytest.mark.parametrize("name", ["maximum", "minimum", "max", "min"])
def test_ties_share(name):
    x = np.array([[1.0, 1.0, 2.0], [2.0, 2.0, 2.0]])
    ours, theirs = getattr(mg, name), {"max": torch.amax, "min": torch.amin}.get(name, getattr(torch, name))
    agree(ours, theirs, [x, x[:1]] if name.endswith("imum") else [x])


DIMS = [None, 0, -1, (0, 2), (-2, -1)]


@LAYOUTS
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", DIMS, ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "var", "std", "logsumexp"])
def test_reductions(name, axis, keepdims, layout):
    if axis is None and name in ("logsumexp", "amax", "amin"):
        axis = (0, 1, 2)
    more = {"correction": 1} if name in ("var", "std") else {}
    agree(lambda x: getattr(mg, name.removeprefix("a"))(x, axis, keepdims=keepdims, **more),
          lambda x: getattr(torch, name)(x, axis, keepdim=keepdims, **more), [draw(3, 2, 4)], layout=layout)


@LAYOUTS
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", ["cumsum", "cumprod", "prod", "argmax", "argmin", "sort", "argsort", "any", "all"])
def test_along_an_axis(name, axis, layout):
    x = draw(3, 4, 2)
    x[0, 1] = 0.0  # products have to be right at zeros
    if name in ("any", "all"):
        x = x > -1
    stable = {"stable": True} if name in ("sort", "argsort") else {}
    agree(lambda t: getattr(mg, name)(t, axis=axis), lambda t: getattr(torch, name)(t, dim=axis, **stable)[0]
          if name == "sort" else getattr(torch, name)(t, dim=axis, **stable), [x], layout=layout)


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
@pytest.mark.parametrize("shape", [(0,), (2, 0, 3), (1, 1)])
def test_running_totals_of_nothing(name, shape):
    agree(lambda t: getattr(mg, name)(t, 0), lambda t: getattr(torch, name)(t, 0), [draw(*shape)])


@pytest.mark.parametrize("x", [[], [0.0], [2.0, 0.0, 3.0], [0.0, 1.0, 0.0], [-1.5, 2.0]], ids=str)
def test_products_at_zeros(x):
    agree(mg.prod, torch.prod, [np.array(x)])


@pytest.mark.parametrize("descending", [False, True])
def test_equal_and_missing_numbers_in_order(descending):
    x = np.array([2.0, 1.0, np.nan, 1.0, np.inf, 2.0, -np.inf, 1.0])
    agree(lambda t: (mg.sort(t, descending=descending), mg.argsort(t, descending=descending)),
          lambda t: tuple(torch.sort(t, descending=descending, stable=True)), [x], orders=1)


@LAYOUTS
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(("k", "axis"), [(0, 0), (2, -1), (3, 1), (3, 0)])
def test_topk(k, axis, largest, layout):
    agree(lambda t: mg.topk(t, k, axis, largest), lambda t: tuple(torch.topk(t, k, axis, largest)), [draw(3, 4)],
          layout=layout)


INDICES = [((2, 4), 0), ((3, 6), 1), ((3, 2), -1), ((0, 4), 0), ((1, 1), 1)]


@LAYOUTS
@pytest.mark.parametrize(("shape", "axis"), INDICES, ids=str)
def test_gather_and_scatter(shape, axis, layout):
    i = np.random.default_rng(2).integers(0, 3, shape)
    agree(lambda x, i: mg.gather(x, axis, i), lambda x, i: torch.gather(x, axis, i), [draw(3, 4), i], layout=layout)
    agree(lambda x, i, y: mg.scatter_add(x, axis, i, y), lambda x, i, y: torch.scatter_add(x, axis, i, y),
          [draw(3, 4), i, draw(*shape, seed=1)], layout=layout)
    agree(lambda x, i, y: mg.scatter_add(x, axis, i, y), lambda x, i, y: torch.scatter_add(x, axis, i, y),
          [draw(3, 4), i, draw(7, 7, seed=1)], orders=0, layout=layout)  # torch has no derivative of that
    if shape[1 - axis % 2] in (1, (3, 4)[1 - axis % 2]):
        agree(lambda x, i: mg.take_along_axis(x, i, axis), lambda x, i: torch.take_along_dim(x, i, axis),
              [draw(3, 4), i], layout=layout)
    agree(mg.take, torch.take, [draw(3, 4), i], layout=layout)


@LAYOUTS
@pytest.mark.parametrize(("ours", "theirs"), [
    (lambda x: mg.split(x, 2, 1), lambda x: torch.tensor_split(x, 2, 1)),
    (lambda x: mg.split(x, [1, 3], -2), lambda x: torch.tensor_split(x, (1, 3), -2)),
    (lambda x: mg.split(x, [], 0), lambda x: torch.tensor_split(x, (), 0)),
    (lambda x: mg.unstack(x, 1), lambda x: torch.unbind(x, 1)),
    (lambda x: mg.split(x, 2, 1)[1], lambda x: torch.tensor_split(x, 2, 1)[1]),
    (lambda x: mg.flip(x, (0, -1)), lambda x: torch.flip(x, (0, -1))),
    (lambda x: mg.roll(x, 3), lambda x: torch.roll(x, 3)),
    (lambda x: mg.roll(x, (1, -2), (0, 1)), lambda x: torch.roll(x, (1, -2), (0, 1))),
    (lambda x: mg.roll(x, (1, 1), (0, 0)), lambda x: torch.roll(x, (1, 1), (0, 0))),
    (lambda x: mg.repeat(x, 3, 1), lambda x: torch.repeat_interleave(x, 3, 1)),
    (lambda x: mg.repeat(x, [0, 2, 1, 1], 1), lambda x: torch.repeat_interleave(x, torch.tensor([0, 2, 1, 1]), 1)),
    (lambda x: mg.repeat(x, 2), lambda x: torch.repeat_interleave(x, 2)),
    (lambda x: mg.tile(x, (2, 1, 3)), lambda x: torch.tile(x, (2, 1, 3))),
    (lambda x: mg.tile(x, (2, 2, 1, 1)), lambda x: torch.tile(x, (2, 2, 1, 1))),
    (lambda x: mg.tile(x, 2), lambda x: torch.tile(x, (2,))),
    (lambda x: mg.tril(x, 1), lambda x: torch.tril(x, 1)),
    (lambda x: mg.triu(x, -1), lambda x: torch.triu(x, -1)),
    (lambda x: mg.permute_dims(x, (2, 0, 1)), lambda x: torch.permute(x, (2, 0, 1))),
    (lambda x: mg.moveaxis(x, 0, -1), lambda x: torch.moveaxis(x, 0, -1)),
    (lambda x: mg.swapaxes(x, 0, -1), lambda x: torch.swapaxes(x, 0, -1)),
    (lambda x: mg.concat([x, x], -1), lambda x: torch.cat([x, x], -1)),
    (lambda x: mg.stack([x, x], 1), lambda x: torch.stack([x, x], 1)),
    (lambda x: mg.flatten(x, 1), lambda x: torch.flatten(x, 1)),
    (lambda x: mg.clip(x, -0.5, 0.5), lambda x: torch.clamp(x, -0.5, 0.5)),
    (lambda x: x[1:, None, [0, 2, 0]], lambda x: x[1:, None, [0, 2, 0]]),
    (lambda x: x[..., 0], lambda x: x[..., 0]),
    (lambda x: x[x > 0], lambda x: x[x > 0]),
])
@pytest.mark.parametrize("shape", [(3, 4, 2), (2, 4, 3)], ids=str)
def test_rearranged(ours, theirs, shape, layout):
    agree(ours, theirs, [draw(*shape)], layout=layout)


@LAYOUTS
@pytest.mark.parametrize(("text", "shapes"), [
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("bij,bjk", [(2, 3, 4), (2, 4, 2)]), ("ii", [(3, 3)]), ("ii->i", [(3, 3)]),
    ("...ij->...ji", [(2, 3, 4)]), ("i,j->ij", [(2,), (3,)]), ("bn,anm,bm->ba", [(2, 3), (4, 3, 2), (2, 2)]),
    ("...,...", [(2, 3), (3,)]), ("ij->j", [(2, 3)]), ("ij,ij->", [(2, 3), (2, 3)]), ("iji->j", [(3, 2, 3)]),
    ("ab,cd->", [(2, 3), (0, 2)]), ("b a -> a b", [(2, 3)]),
], ids=str)
def test_einsum(text, shapes, layout):
    agree(lambda *xs: mg.einsum(text, *xs), lambda *xs: torch.einsum(text, *xs),
          [draw(*s, seed=i) for i, s in enumerate(shapes)], layout=layout)


@LAYOUTS
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", DIMS, ids=str)
@pytest.mark.parametrize("ord", [2, 1, 3, 0.5, 0, np.inf, -np.inf, 2.5, -1])
def test_norm(ord, axis, keepdims, layout):
    agree(lambda x: mg.norm(x, ord, axis, keepdims), lambda x: torch.linalg.vector_norm(x, ord, axis, keepdims),
          [draw(2, 3, 4)], layout=layout)


def test_norm_of_nothing_but_zeros_and_of_a_number():
    for p in (1, 2, 3):
        agree(lambda x, p=p: mg.norm(x, p, 1), lambda x, p=p: torch.linalg.vector_norm(x, p, 1), [np.zeros((2, 3))],
              orders=1)
    agree(mg.norm, torch.linalg.vector_norm, [np.array(-3.0)])


def test_outer():
    agree(mg.outer, torch.outer, [draw(3), draw(4)])


@LAYOUTS
@pytest.mark.parametrize("shapes", [((2, 3), (3, 4)), ((3,), (3,)), ((2, 1, 3, 2), (3, 2, 4)), ((0, 3), (3, 2)),
                                    ((2, 0), (0, 3)), ((5, 3), (3,)), ((3,), (2, 3, 4))], ids=str)
def test_matmul(shapes, layout):
    agree(mg.matmul, torch.matmul, [draw(*s, seed=i) for i, s in enumerate(shapes)], layout=layout)


@pytest.mark.parametrize(("ours", "theirs"), [
    (lambda x: mg.sort(x, 2), lambda x: torch.sort(x, 2)), (lambda x: mg.topk(x, 5), lambda x: torch.topk(x, 5)),
    (lambda x: mg.topk(x, -1), lambda x: torch.topk(x, -1)), (lambda x: mg.cumsum(x, 3), lambda x: torch.cumsum(x, 3)),
    (lambda x: mg.gather(x, 0, np.array([[3]])), lambda x: torch.gather(x, 0, torch.tensor([[3]]))),
    (lambda x: mg.gather(x, 0, np.array([[-1]])), lambda x: torch.gather(x, 0, torch.tensor([[-1]]))),
    (lambda x: mg.gather(x, 1, np.zeros((4, 1), int)), lambda x: torch.gather(x, 1, torch.zeros((4, 1), dtype=int))),
    (lambda x: mg.gather(x, 0, np.zeros(3, int)), lambda x: torch.gather(x, 0, torch.zeros(3, dtype=int))),
    (lambda x: mg.gather(x, 0, np.zeros((1, 1))), lambda x: torch.gather(x, 0, torch.zeros((1, 1)))),
    (lambda x: mg.take(x, np.array([12])), lambda x: torch.take(x, torch.tensor([12]))),
    (lambda x: mg.flip(x, (0, 0)), lambda x: torch.flip(x, (0, 0))),
    (lambda x: mg.roll(x, (1, 2), 0), lambda x: torch.roll(x, (1, 2), 0)),
    (lambda x: mg.tril(x[0]), lambda x: torch.tril(x[0])),
    (lambda x: mg.repeat(x, -1, 0), lambda x: torch.repeat_interleave(x, -1, 0)),
    (lambda x: mg.repeat(x, [1, 2], 0), lambda x: torch.repeat_interleave(x, torch.tensor([1, 2]), 0)),
    (lambda x: mg.einsum("ij,jk", x, x), lambda x: torch.einsum("ij,jk", x, x)),
    (lambda x: mg.einsum("ijk", x), lambda x: torch.einsum("ijk", x)),
    (lambda x: mg.einsum("ij->k", x), lambda x: torch.einsum("ij->k", x)),
    (lambda x: mg.einsum("ij->ii", x), lambda x: torch.einsum("ij->ii", x)),
    (lambda x: mg.einsum("ij,j", x), lambda x: torch.einsum("ij,j", x)),
    (lambda x: mg.argmax(x[:0]), lambda x: torch.argmax(x[:0])),
    (lambda x: mg.max(x[:0]), lambda x: torch.max(x[:0])),
    (lambda x: mg.scatter_add(x, 0, np.zeros((4, 4), int), x),
     lambda x: torch.scatter_add(x, 0, torch.zeros((4, 4), dtype=int), x)),
], ids=range(23))
def test_what_torch_refuses_we_refuse(ours, theirs):
    with pytest.raises((RuntimeError, IndexError, ValueError, TypeError)):
        theirs(torch.ones(3, 4))
    with pytest.raises(MinigradError, match=r"got .*wanted|: got"):
        ours(mg.ones(3, 4))
