"""Lists and numbers in place of arrays: array functions take them as NumPy's do, the others refuse in plain words."""

import pickle

import cases
import numpy as np
import pytest

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, ops
from minigrad.arraylike import takes_lists
from minigrad.errors import DtypeError

PUBLIC = [case for case in cases.CASES if hasattr(minigrad, case.name)]


@pytest.mark.parametrize("case", PUBLIC, ids=str)
def test_array_functions_take_lists(case):
    assert getattr(minigrad, case.name).__wrapped__ is getattr(ops, case.name)
    arrays = case.draw()
    found = cases.as_tuple(takes_lists(case.call, "test")(*(a.tolist() for a in arrays)))
    for y, z in zip(found, cases.as_tuple(case.reference(*arrays)), strict=True):
        assert cases.relative(y, z) < 1e-14


def test_a_list_beside_a_tensor():
    x = Tensor(np.ones(2), requires_grad=True)
    y = minigrad.concat([x, [2.0, 3.0]])
    assert y.requires_grad
    np.testing.assert_array_equal(y.numpy(), [1.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(minigrad.sum([[1, 2], [3, 4]], axis=[0]), [4, 6])


@pytest.mark.parametrize("wrong", [None, "abc"])
def test_what_describes_no_array_is_refused(wrong):
    with pytest.raises(DtypeError, match=r"^sum: got .*wanted a Tensor or an array$"):
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


def test_functions_survive_pickling():
    for function in (minigrad.sum, F.gelu):
        assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301
