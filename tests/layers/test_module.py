"""Module: registration, traversal, modes, conversion, hooks, copies, text, and the scope that calls enter."""

import copy
import pickle

import numpy as np
import pytest

import minigrad
from minigrad import Tensor, modes
from minigrad import functional as F
from minigrad.errors import ArgumentError, DtypeError, ShapeError, StateError
from minigrad.layers import (
    BatchNorm1d,
    Buffer,
    Conv2d,
    Dropout,
    Linear,
    Module,
    ModuleList,
    Parameter,
    ReLU,
    Sequential,
)


class Block(Module):
    """Every kind of member, for the tests to find. At the top of the file, so that it can be pickled."""

    def __init__(self):
        super().__init__()
        self.first = Linear(3, 4)
        self.scale = Parameter(np.full(4, 2.0, np.float32))
        self.norm = BatchNorm1d(4)
        self.table = Buffer(np.arange(4.0, dtype=np.float32), persistent=False)
        self.order = Buffer(np.arange(4))
        self.width = 4

    def forward(self, x):
        return F.relu(self.norm(self.first(x))) * self.scale + self.table


def batch(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


# ------------------------------------------------------------------ registration


def test_members_are_registered_by_type_in_the_order_of_assignment():
    block = Block()
    assert [n for n, _ in block.named_parameters()] == [
        "scale", "first.weight", "first.bias", "norm.weight", "norm.bias"]
    assert [n for n, _ in block.named_buffers()] == [
        "table", "order", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert [n for n, _ in block.named_children()] == ["first", "norm"]
    assert [n for n, _ in block.named_modules()] == ["", "first", "norm"]
    assert next(iter(block.modules())) is block
    assert [n for n, _ in block.named_parameters(recurse=False)] == ["scale"]
    assert [n for n, _ in block.named_buffers(prefix="net", recurse=False)] == ["net.table", "net.order"]
    assert block.width == 4


def test_shared_members_are_given_once():
    shared = Linear(2, 2)
    net = Sequential(shared, ReLU(), shared)
    net[1].tied = shared.weight
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert [n for n, _ in net.named_children()] == ["0", "1"]
    assert [n for n, _ in net.named_modules()] == ["", "0", "1"]
    assert [n for n, _ in net.named_modules(remove_duplicate=False)] == ["", "0", "1", "2"]
    assert len(list(net.parameters())) == 2
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.tied", "2.weight", "2.bias"]


def test_assignment_before_init_is_refused():
    class Early(Module):
        def __init__(self):
            self.weight = Parameter(np.ones(2, np.float32))

    with pytest.raises(StateError, match=r"Early\.weight: got a parameter before .* super\(\)"):
        Early()

    class Never(Module):
        def __init__(self):
            self.size = 2

        def forward(self, x):
            return x

    with pytest.raises(AttributeError, match="has not been called"):
        Never()(1)


@pytest.mark.parametrize(("name", "value", "wanted"), [
    ("scale", 3, "a Parameter or None"),
    ("scale", Tensor([1.0]), "a Parameter or None"),
    ("first", "text", "a Module or None"),
    ("order", [1, 2], "a Tensor or None"),
])
def test_a_registered_name_keeps_its_kind(name, value, wanted):
    block = Block()
    before = getattr(block, name)
    with pytest.raises(DtypeError, match=rf"Block\.{name}: got a {type(value).__name__} .*{wanted}"):
        setattr(block, name, value)
    assert getattr(block, name) is before


def test_none_holds_the_place_of_a_member():
    block = Block()
    block.scale = block.order = block.norm = None
    assert block.scale is None
    assert list(block.state_dict()) == ["first.weight", "first.bias"]
    block.norm = BatchNorm1d(4)
    block.scale = Parameter(np.ones(4, np.float32))
    assert [n for n, _ in block.named_children()] == ["first", "norm"]
    assert [n for n, _ in block.named_parameters(recurse=False)] == ["scale"]


def test_a_tensor_takes_the_place_of_a_buffer_and_keeps_its_persistence():
    block = Block()
    block.order, block.table = Tensor([3, 2, 1, 0]), Tensor([1.0])
    assert isinstance(block.order, Buffer)
    assert isinstance(block.table, Buffer)
    assert "order" in block.state_dict()
    assert "table" not in block.state_dict()
    block.table = None
    block.table = Tensor([2.0])
    assert "table" not in block.state_dict()
    block.register_buffer("cache", None, persistent=False)
    block.cache = Tensor([1.0])
    assert "cache" not in block.state_dict()


def test_a_name_may_change_its_kind():
    block = Block()
    block.scale = ReLU()
    assert "scale" in dict(block.named_children())
    assert "scale" not in dict(block.named_parameters())
    del block.scale
    assert not hasattr(block, "scale")
    assert "scale" not in dict(block.named_children())
    block.width = Parameter(np.ones(1, np.float32))
    assert "width" in dict(block.named_parameters())


def test_register_functions():
    net = Module()
    net.register_parameter("a", Parameter(np.ones(1)))
    net.register_parameter("b", None)
    net.register_buffer("c", Tensor([1.0]))
    net.register_buffer("d", Buffer(np.ones(1)), persistent=False)
    net.add_module("0", ReLU())
    assert list(net.state_dict()) == ["a", "c"]
    assert net.b is None
    for call in (lambda: net.register_parameter("a", Tensor([1.0])), lambda: net.register_buffer("c", [1.0]),
                 lambda: net.add_module("0", print)):
        with pytest.raises(DtypeError):
            call()


@pytest.mark.parametrize("name", ["", "a.b", "forward", "train", "training", "_kinds"])
def test_names_that_are_not_free_are_refused(name):
    with pytest.raises(ArgumentError, match=r"Module\."):
        Module().add_module(name, ReLU())


def test_a_module_cannot_contain_itself():
    block = Block()
    block.first.inner = ReLU()
    with pytest.raises(ArgumentError, match="contains this one"):
        block.first.inner.parent = block
    with pytest.raises(ArgumentError, match="contains this one"):
        block.me = block


def test_a_missing_attribute_suggests_names_that_are_close():
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'wieght'; did you mean 'weight'"):
        _ = Linear(1, 1).wieght
    assert not hasattr(Linear(1, 1), "zzzzzz")


def test_a_failing_property_tells_its_own_error():
    class Broken(Module):
        @property
        def size(self):
            return self.length

    with pytest.raises(AttributeError, match="no attribute 'length'"):
        _ = Broken().size


def test_get_submodule():
    net = Sequential(Block(), ReLU())
    assert net.get_submodule("0.norm") is net[0].norm
    assert net.get_submodule("") is net
    with pytest.raises(AttributeError, match="not a module"):
        net.get_submodule("0.scale")


# ------------------------------------------------------------------ all at once


def test_train_and_eval_reach_everything():
    net = Sequential(Block(), Dropout(0.5))
    assert net.eval() is net
    assert [m.training for m in net.modules()] == [False] * 5
    assert net.train() is net
    assert [m.training for m in net.modules()] == [True] * 5


def test_freezing_and_zero_grad():
    block = Block()
    block.first.requires_grad_(False)
    block(batch(5, 3)).sum().backward()
    assert block.first.weight.grad is None
    assert block.scale.grad.shape == (4,)
    block.zero_grad(set_to_none=False)
    assert block.scale.grad.tolist() == [0.0] * 4
    block.zero_grad()
    assert block.scale.grad is None
    block.requires_grad_()
    assert all(p.requires_grad for p in block.parameters())


def test_apply_goes_to_children_first():
    seen = []
    net = Sequential(Sequential(ReLU()), Linear(1, 1))
    assert net.apply(seen.append) is net
    assert seen == [net[0][0], net[0], net[1], net]


def test_to_converts_the_same_objects():
    block = Block()
    block(batch(5, 3)).sum().backward()
    before = dict(block.named_parameters())
    assert block.to("float64") is block
    for name, parameter in block.named_parameters():
        assert parameter is before[name]
        assert parameter.dtype == parameter.grad.dtype == np.float64
    assert block.table.dtype == block.norm.running_var.dtype == np.float64
    assert block.order.dtype == block.norm.num_batches_tracked.dtype == np.int64
    assert block.first.weight.data.flags.f_contiguous
    assert block(batch(5, 3).to("float64")).dtype == np.float64


@pytest.mark.parametrize("dtype", ["float16", np.float16, np.dtype("float16")])
def test_half_precision_leaves_running_statistics_in_float32(dtype):
    block = Block().to(dtype)
    assert block.norm.weight.dtype == np.float16
    assert block.norm.running_mean.dtype == block.norm.running_var.dtype == np.float32


def test_to_a_device_and_a_dtype():
    block = Block()
    data = block.scale.data
    assert block.to("cpu").scale.data is data
    assert block.cpu().to("cpu", np.float64).scale.dtype == np.float64
    with pytest.raises(DtypeError, match="int64"):
        block.to(dtype=np.int64)
    with pytest.raises(minigrad.errors.DeviceError, match="tpu"):
        block.to("tpu")


# ------------------------------------------------------------------ hooks


def test_hooks_see_and_replace():
    layer, calls = Linear(2, 2), []
    remove_pre = layer.register_forward_pre_hook(lambda module, args: calls.append((module, args)))
    remove = layer.register_forward_hook(lambda module, args, output: calls.append((module, args, output)))
    x = batch(1, 2)
    y = layer(x)
    assert calls[0][0] is layer
    assert calls[0][1][0] is x
    assert calls[1][2] is y
    remove_pre()
    remove()
    layer(x)
    assert len(calls) == 2

    layer.register_forward_pre_hook(lambda module, args: args[0] * 0)
    layer.register_forward_hook(lambda module, args, output: output + 1)
    np.testing.assert_array_equal(layer(x).numpy(), layer.bias.numpy()[None] + 1)


def test_removing_a_hook_twice_spares_the_others():
    layer, calls = ReLU(), []
    remove = layer.register_forward_hook(lambda *_: calls.append(1))
    remove()
    layer.register_forward_hook(lambda *_: calls.append(2))
    remove()
    layer(Tensor([1.0]))
    assert calls == [2]


# ------------------------------------------------------------------ copies and text


def test_deepcopy_is_independent():
    block = Block()
    block.tied = block.first.weight
    other = copy.deepcopy(block)
    assert other.tied is other.first.weight
    assert other.tied is not block.tied
    assert other.first.weight.data.flags.f_contiguous
    expected = block.scale.numpy().copy()
    other.scale.assign(7)
    other.train(False).norm.num_batches_tracked.data = np.asarray(9)
    np.testing.assert_array_equal(block.scale.numpy(), expected)
    assert block.training
    assert block.norm.num_batches_tracked.item() == 0
    assert [n for n, _ in other.named_buffers()] == [n for n, _ in block.named_buffers()]


def test_pickle_round_trip():
    block = Block()
    block(batch(5, 3))
    block.eval().first.requires_grad_(False)
    other = pickle.loads(pickle.dumps(block))  # noqa: S301 (what this test has written itself)
    assert isinstance(other.order, Buffer)
    assert not other.first.weight.requires_grad
    assert other.first.weight.data.flags.f_contiguous
    assert list(other.state_dict()) == list(block.state_dict())
    x = batch(2, 3, seed=1)
    np.testing.assert_array_equal(other(x).numpy(), block(x).numpy())


def test_repr_is_a_tree():
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.features = Sequential(Conv2d(1, 2, 3, padding="same", bias=False), ReLU())
            self.blocks = ModuleList([ReLU(), ReLU(), Dropout(0.1)])

        def extra_repr(self):
            return "depth=2"

    assert repr(Net()) == """Net(
  depth=2
  (features): Sequential(
    (0): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding=same, bias=False)
    (1): ReLU()
  )
  (blocks): ModuleList(
    (0-1): 2 x ReLU()
    (2): Dropout(p=0.1, inplace=False)
  )
)"""
    assert repr(Module()) == "Module()"


# ------------------------------------------------------------------ the scope of a call


def test_calls_run_in_the_scope_of_their_path():
    seen = []

    class Probe(Module):
        def forward(self, x):
            seen.append(modes.layer_path(modes.current().scope))
            return x

    class Net(Module):
        def __init__(self):
            super().__init__()
            self.features = Sequential(ReLU(), Probe())
            self.last = Probe()

        def forward(self, x):
            return self.last(self.features(x))

    Net()(Tensor([1.0]))
    assert seen == ["features.1 (Probe)", "last (Probe)"]
    assert modes.current().scope is None


def test_a_call_keeps_the_rest_of_the_mode_and_leaves_the_scope_on_errors():
    class Probe(Module):
        def forward(self, x):
            assert not modes.current().recording
            raise KeyError(x)

    with minigrad.no_grad():
        with pytest.raises(KeyError):
            Probe()(1)
        assert modes.current().scope is None
        assert not modes.current().recording


def test_nodes_and_errors_name_the_layer():
    net = Sequential(Sequential(Linear(3, 4)), BatchNorm1d(5))
    y = net[0](batch(2, 3))
    assert modes.layer_path(y.node.scope) == "0.0 (Linear)"  # of the inner Sequential, which is called "0"
    with pytest.raises(ShapeError, match=r"in layer 1 \(BatchNorm1d\): got input of shape \(2, 4\)"):
        net(batch(2, 3))
    with pytest.raises(ShapeError, match=r"linear in layer 0\.0 \(Linear\)"):
        net(batch(2, 7))


def test_a_module_without_forward_says_so():
    class Empty(Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty has no method forward\(\)"):
        Empty()(1)
