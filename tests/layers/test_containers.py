"""Sequential and ModuleList: calling, indexing, slicing, editing."""

from collections import OrderedDict

import numpy as np
import pytest

from minigrad import Tensor, modes
from minigrad.errors import ArgumentError, DtypeError
from minigrad.layers import Flatten, Identity, Linear, Module, ModuleList, ReLU, Sequential, Tanh


class Path(Module):
    def forward(self, x):
        return modes.layer_path(modes.current().scope)


def names(module):
    return [name for name, _ in module.named_children()]


def test_sequential_calls_in_order():
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3)))
    first, last = Linear(3, 4), Linear(4, 1)
    y = Sequential(first, Tanh(), last)(x)
    h = np.tanh(x.numpy() @ first.weight.numpy().T + first.bias.numpy())
    np.testing.assert_allclose(y.numpy(), h @ last.weight.numpy().T + last.bias.numpy(), rtol=1e-12)
    assert Sequential()(x) is x


def test_sequential_from_names():
    net = Sequential(OrderedDict(first=Linear(1, 2), act=ReLU()))
    assert names(net) == ["first", "act"]
    assert net.act is net[1]
    assert net[-2] is net.first
    assert names(net[1:]) == ["act"]


def test_indexing_slicing_and_membership():
    a, b, c = ReLU(), Tanh(), Identity()
    net = Sequential(a, b, c)
    assert [net[0], net[-1], net[np.int64(1)]] == [a, c, b]
    assert list(net[1:]) == [b, c]
    assert isinstance(net[1:], Sequential)
    assert names(net[1:]) == ["1", "2"]
    assert a in net
    assert ReLU() not in net
    for index in (3, -4):
        with pytest.raises(IndexError, match="of 3 modules"):
            net[index]
    with pytest.raises(TypeError):
        net["0"]


@pytest.mark.parametrize("kind", [Sequential, ModuleList])
def test_editing(kind):
    a, b, c, d = ReLU(), Tanh(), Identity(), Flatten()
    net = kind()
    assert net.append(a).extend([b, c]) is net
    assert len(net) == 3
    net.insert(1, d)
    assert list(net) == [a, d, b, c]
    assert names(net) == ["0", "1", "2", "3"]
    del net[0]
    assert list(net) == [d, b, c]
    del net[1:]
    net[0] = a
    assert list(net) == [a]
    assert names(net) == ["0"]
    with pytest.raises(DtypeError, match="wanted a Module"):
        net.append(print)


@pytest.mark.parametrize("kind", [Sequential, ModuleList])
def test_a_refused_edit_changes_nothing(kind):
    a, b = ReLU(), Tanh()
    net = kind([a, b]) if kind is ModuleList else kind(a, b)
    outer = Sequential(net)
    edits = (net.append, lambda m: net.insert(0, m), lambda m: net.extend([Identity(), m]),
             lambda m: net.__setitem__(1, m))
    for wrong, error in ((print, DtypeError), (None, DtypeError), (net, ArgumentError), (outer, ArgumentError)):
        for edit in edits:
            with pytest.raises(error, match=r"\[[0-3]\]"):
                edit(wrong)
            assert list(net) == [a, b]
            assert names(net) == ["0", "1"]


def test_appending_overwrites_no_module_whose_name_is_taken():
    a, b, c, d = ReLU(), Tanh(), Identity(), Flatten()
    part = Sequential(a, b, c)[1:].append(d)
    assert list(part) == [b, c, d]
    assert list(Sequential({"1": a}).append(b)) == [a, b]


def test_children_know_their_new_names():
    net = Sequential(ReLU(), Path())
    del net[0]
    assert net(0) == "0 (Path)"


def test_a_slice_of_a_list_does_not_rename_the_layers():
    blocks = ModuleList([Path(), Path(), Path()])
    part = blocks[1:]
    assert names(part) == ["0", "1"]
    assert [block(0) for block in blocks] == ["0 (Path)", "1 (Path)", "2 (Path)"]


def test_module_list_registers():
    blocks = ModuleList(Linear(1, 1) for _ in range(2))
    assert list(blocks.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    with pytest.raises(NotImplementedError):
        blocks(0)


def test_flatten_and_identity():
    x = Tensor(np.arange(24).reshape(2, 3, 4))
    assert Flatten()(x).shape == (2, 12)
    assert Flatten(0, 1)(x).shape == (6, 4)
    assert Identity(3, unused=True)(x) is x
