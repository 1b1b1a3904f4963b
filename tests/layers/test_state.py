"""state_dict and load_state_dict: a round trip, and failures that change nothing."""

import numpy as np
import pytest

from minigrad import Tensor
from minigrad.errors import GraphError, StateError
from minigrad.layers import BatchNorm1d, Linear, Module, Parameter, ReLU, Sequential
from minigrad.ops.random import Generator


def net(seed=0, **options):
    generator = Generator(seed)
    return Sequential(Linear(3, 4, generator=generator), BatchNorm1d(4, **options), ReLU(),
                      Linear(4, 2, generator=generator))


def batch(seed=0, rows=5):
    return Tensor(np.random.default_rng(seed).standard_normal((rows, 3)).astype(np.float32))


def snapshot(module):
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def assert_same(one, other):
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], strict=True)


NAMES = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
         "3.weight", "3.bias"]


def test_names_and_shared_memory():
    module = net()
    state = module.state_dict()
    assert list(state) == NAMES
    assert state["0.weight"].data is module[0].weight.data
    assert not any(tensor.requires_grad for tensor in state.values())
    assert next(iter(module.state_dict(prefix="m."))) == "m.0.weight"


@pytest.mark.parametrize("as_arrays", [False, True])
def test_round_trip(as_arrays):
    source, target = net(0), net(1)
    source(batch())
    state = snapshot(source) if as_arrays else source.state_dict()
    found = target.load_state_dict(state)
    assert found == ([], [])
    assert_same(snapshot(target), snapshot(source))
    assert target[0].weight.data.flags.f_contiguous
    assert not any(np.shares_memory(a.data, b.data)
                   for a, b in zip(target.state_dict().values(), source.state_dict().values()))


def test_parameters_are_written_in_place_and_buffers_rebound():
    module = net()
    weight, mean = module[0].weight.data, module[1].running_mean.data
    module.load_state_dict(snapshot(net(1)))
    assert module[0].weight.data is weight
    assert module[1].running_mean.data is not mean


def test_graphs_recorded_before_a_load_refuse_parameters_and_keep_buffers():
    module = net().eval()
    x = batch().requires_grad_()
    y = module(x).sum()
    module.load_state_dict(snapshot(net(1)))
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()

    norm = BatchNorm1d(3, affine=False).eval()
    y = norm(x).sum()
    norm.load_state_dict({"running_mean": np.ones(3), "running_var": np.full(3, 9.0), "num_batches_tracked": 4})
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full((5, 3), (1 + 1e-5) ** -0.5), rtol=1e-6)
    np.testing.assert_array_equal(norm.running_var.numpy(), np.full(3, 9, np.float32), strict=True)


def test_everything_wrong_is_named_at_once_and_nothing_changes():
    module, state = net(), snapshot(net(1))
    before, mean = snapshot(module), module[1].running_mean.data
    del state["0.weight"]
    state["extra"] = np.ones(1)
    state["3.weight"] = np.ones((4, 2), np.float32)
    state["1.bias"] = np.ones(4, np.complex64)
    with pytest.raises(StateError) as caught:
        module.load_state_dict(state)
    for part in ("load_state_dict of Sequential", "missing '0.weight'", "unexpected 'extra'",
                 "'3.weight' has shape (4, 2) for (2, 4)", "'1.bias' has dtype complex64 for float32"):
        assert part in str(caught.value)
    assert_same(snapshot(module), before)
    assert module[1].running_mean.data is mean


def test_not_strict_returns_names_but_refuses_shapes():
    module, state = net(), snapshot(net(1))
    del state["0.weight"], state["1.num_batches_tracked"]
    state["extra"] = np.ones(1)
    found = module.load_state_dict(state, strict=False)
    assert found.missing_keys == ["0.weight"]
    assert found.unexpected_keys == ["extra"]
    np.testing.assert_array_equal(module[3].weight.numpy(), state["3.weight"])
    with pytest.raises(StateError, match=r"'3\.bias' has shape"):
        module.load_state_dict({"3.bias": np.ones(3)}, strict=False)


def test_checkpoints_without_the_number_of_batches():
    state = snapshot(net())
    del state["1.num_batches_tracked"]
    module = net(1)
    module(batch())
    assert module.load_state_dict(state) == ([], [])
    assert module[1].num_batches_tracked.item() == 1
    with pytest.raises(StateError, match=r"missing '1\.num_batches_tracked'"):
        net(1, momentum=None).load_state_dict(state)  # its average needs the number


def test_values_are_cast_but_not_to_another_kind():
    module = Linear(2, 1)
    module.load_state_dict({"weight": np.ones((1, 2)), "bias": np.array([3])})
    assert module.weight.dtype == module.bias.dtype == np.float32
    assert module.bias.tolist() == [3.0]
    norm = BatchNorm1d(2)
    with pytest.raises(StateError, match="'num_batches_tracked' has dtype float64 for int64"):
        norm.load_state_dict(norm.state_dict() | {"num_batches_tracked": np.asarray(3.5)})


def test_a_failing_conversion_changes_nothing():
    module = Linear(2, 1)
    before = snapshot(module)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        module.load_state_dict({"weight": np.ones((1, 2)), "bias": np.array([1e300])})
    assert_same(snapshot(module), before)


def test_read_only_parameters_are_named():
    module = Linear(2, 1)
    before = snapshot(module)
    module.bias.data = np.broadcast_to(np.float32(0.5), (1,))
    with pytest.raises(StateError, match="'bias' would be written to read-only memory"):
        module.load_state_dict(snapshot(Linear(2, 1)))
    np.testing.assert_array_equal(module.weight.numpy(), before["weight"])


def test_own_values_may_be_loaded_under_exchanged_names():
    class Pair(Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Parameter(np.array([1.0])), Parameter(np.array([2.0]))

    pair = Pair()
    state = pair.state_dict()
    pair.load_state_dict({"a": state["b"], "b": state["a"]})
    assert (pair.a.item(), pair.b.item()) == (2.0, 1.0)


def test_tied_parameters_round_trip():
    module = Sequential(Linear(2, 2), Linear(2, 2))
    module[1].weight = module[0].weight
    module.load_state_dict(snapshot(Sequential(Linear(2, 2), Linear(2, 2))) | {
        "0.weight": np.eye(2), "1.weight": np.eye(2)})
    assert module[1].weight is module[0].weight
    np.testing.assert_array_equal(module[0].weight.numpy(), np.eye(2))


@pytest.mark.parametrize("wrong", [None, 3, "model.safetensors", [("weight", 1)], Linear(1, 1)])
def test_what_is_no_mapping_is_refused(wrong):
    with pytest.raises(StateError, match=f"got a {type(wrong).__name__}; wanted a mapping"):
        net().load_state_dict(wrong)
