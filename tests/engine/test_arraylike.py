"""Lists and numbers in place of arrays: array functions take them as NumPy's do, the others refuse in plain words."""

import pickle

import cases
import numpy as np
import pytest

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, ops
from minigrad.arraylike import takes_lists
from minigrad.errors import DtypeError, ShapeError

PUBLIC = [case for case in cases.CASES if hasattr(minigrad, case.name)]


@pytest.mark.parametrize("case", PUBLIC, ids=str)
def test_array_functions_take_lists(case):
    assert getattr(minigrad, case.name).__wrapped__ is getattr(ops, case.name)
    arrays = case.draw()
    found = cases.as_tuple(takes_lists(case.call, "test", case.name)(*(a.tolist() for a in arrays)))
    for y, z in zip(found, cases.as_tuple(case.reference(*arrays)), strict=True):
        assert cases.relative(y, z) < 1e-14


def test_a_list_beside_a_tensor():
    x = Tensor(np.ones(2), requires_grad=True)
    y = minigrad.concat([x, [2.0, 3.0]])
    assert y.requires_grad
    np.testing.assert_array_equal(y.numpy(), [1.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(minigrad.sum([[1, 2], [3, 4]], axis=[0]), [4, 6])


@pytest.mark.parametrize("wrong", [None, "abc", {1: 2}, object()])
def test_what_describes_no_array_is_refused(wrong):
    with pytest.raises(DtypeError, match=r"^sum: got (None|str|dict|object).*wanted a Tensor or an array$"):
        minigrad.sum(wrong)


X = Tensor(np.ones((2, 3)))


@pytest.mark.parametrize(("name", "arguments"), [
    ("linear", ([1.0], X)), ("linear", (X, None)), ("conv2d", ([[1.0]], Tensor(np.ones((1, 1, 1, 1))))),
    ("mse_loss", (X, [1.0])), ("cross_entropy", ([1.0, 2.0], 0)),
    ("softmax", ([1.0], 0)), ("layer_norm", ([1.0], 1)), ("dropout", (1.0,)),
    ("embedding", ([0], [[1.0]])), ("max_pool1d", ([[1.0]], 1)), ("scaled_dot_product_attention", (X, X, [1.0])),
    ("group_norm", ([[1.0]], 1)), ("normalize", ([1.0],)), ("pad", ([1.0], (1, 1))),
])
def test_functional_refuses(name, arguments):
    with pytest.raises(DtypeError, match=rf"^{name}: got (list|float|None).*; wanted a Tensor or an array"):
        getattr(F, name)(*arguments)


@pytest.mark.parametrize(("layer", "arguments"), [
    (layers.Linear(2, 3), ([1.0, 2.0],)), (layers.LSTM(1, 1), ([[1.0]],)), (layers.BatchNorm1d(2), ([[1.0, 2.0]],)),
    (layers.MultiheadAttention(2, 1), (X, X, None)), (layers.Conv1d(1, 1, 1), (3,)), (layers.Flatten(), ([1.0],)),
    (layers.MSELoss(), (X, 1.0)), (layers.GRUCell(1, 1), ([1.0],)),
], ids=lambda x: type(x).__name__)
def test_layers_refuse(layer, arguments):
    class Model(layers.Module):
        def __init__(self):
            super().__init__()
            self.first = layer

        def forward(self, *xs):
            return self.first(*xs)

    path = rf" in layer first \({type(layer).__name__}\): got (list|int|float|None).*wanted a Tensor or an array"
    with pytest.raises(DtypeError, match=path):
        Model()(*arguments)


def test_a_mistake_in_a_layer_is_not_called_one_of_its_arguments():
    class Wrong(layers.Module):
        def forward(self, x):
            return self.absent if isinstance(x, list) else x.shap

    with pytest.raises(AttributeError, match="absent"):
        Wrong()([1.0])
    with pytest.raises(AttributeError, match="shap"):
        Wrong()(X)


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda: minigrad.zeros(2, -1), ShapeError, "^zeros: got 2, -1. negative dimensions are not allowed"),
    (lambda: minigrad.zeros(2, dtype="bad"), DtypeError, "^zeros: got 2, dtype='bad'"),
    (lambda: minigrad.full((2,), "a"), ShapeError, "^full: got"), (lambda: minigrad.eye(1.5), DtypeError, "^eye: got"),
    (lambda: minigrad.linspace(0, 1, -1), ShapeError, "^linspace: got 0, 1, -1"),
    (lambda: minigrad.randint(3, 3, (2,)), ShapeError, "^randint: got 3, 3, .*low >= high"),
    (lambda: minigrad.randperm(1.5), DtypeError, "^randperm: got n=1.5; wanted a whole number"),
    (lambda: minigrad.arange("a"), DtypeError, "^arange: got 'a'"),
    (lambda: minigrad.astype(X, "bad"), DtypeError, r"^astype: got float64\[2, 3\], 'bad'"),
    (lambda: minigrad.topk(X, None), DtypeError, "^topk: got k=None; wanted a whole number"),
    (lambda: minigrad.split(X, 1.5), DtypeError, "^split: got indices_or_sections=1.5"),
    (lambda: minigrad.repeat(X, 1.5), DtypeError, "^repeat: got repeats=1.5; wanted whole numbers"),
    (lambda: minigrad.tile(X, None), DtypeError, "^tile: got reps=None"),
    (lambda: minigrad.pad(X, 1.5), DtypeError, "^pad: got pad_width=1.5; wanted whole numbers"),
    (lambda: minigrad.broadcast_to(X, None), DtypeError, "^BroadcastTo"),
    (lambda: minigrad.var(X, correction="a"), DtypeError, "^var: got correction='a'; wanted a number"),
])
def test_wrong_options_name_the_function(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_a_wrong_call_is_a_plain_type_error():
    for call in (minigrad.sum, lambda: F.relu6(X, 1, 2), lambda: minigrad.zeros(2, shape=3)):
        with pytest.raises(TypeError) as caught:
            call()
        assert not isinstance(caught.value, DtypeError)


def test_probabilities_may_be_arrays():
    assert minigrad.bernoulli(np.ones(3)).tolist() == [1, 1, 1]
    assert minigrad.multinomial([0.0, 1.0, 0.0], 1).tolist() == [1]


def test_functions_survive_pickling():
    for function in (minigrad.sum, F.gelu):
        assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301
