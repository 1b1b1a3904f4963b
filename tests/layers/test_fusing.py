"""Sequential runs BatchNorm and the activation after it as one operation, where that cannot be told apart."""

import numpy as np
import pytest
from joining import Names, apart, operations, twins

from minigrad import Tensor, kernels, no_grad, observe
from minigrad.expansion import prove_equal
from minigrad.graph import walk
from minigrad.layers import (
    BatchNorm,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Conv2d,
    InstanceNorm1d,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)

pytest.importorskip("numba")

X = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)


@pytest.mark.parametrize("activation", [ReLU, Sigmoid])
@pytest.mark.parametrize(("norm", "shape"), [(BatchNorm, (8, 4)), (BatchNorm1d, (8, 4)), (BatchNorm1d, (5, 4, 7)),
                                             (BatchNorm2d, (3, 4, 5, 6)), (BatchNorm3d, (2, 4, 3, 2, 5))], ids=str)
def test_the_same_numbers_in_one_node(norm, shape, activation):
    one, two = twins(lambda: Sequential(norm(4), activation()))
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    a, b = Tensor(x, True), Tensor(x, True)
    for _ in range(3):
        y, z = one(a), apart(two, b)
        (y * y).sum().backward()
        (z * z).sum().backward()
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=2e-6, atol=2e-6)
    assert [node.op.name for node in walk([y.edge])] == ["ActivatedBatchNorm"]
    assert [node.op.name for node in walk([z.edge])] == ["BatchNorm", activation.__name__]
    for p, q in zip((a, *one.parameters()), (b, *two.parameters())):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5, atol=1e-5)
    for name, buffer in one.state_dict().items():
        np.testing.assert_allclose(buffer, two.state_dict()[name], rtol=1e-6)
    assert one[0].num_batches_tracked.item() == 3


def test_a_network_with_several():
    def make():
        return Sequential(Conv2d(3, 4, 3), BatchNorm2d(4), ReLU(), Conv2d(4, 5, 3), BatchNorm2d(5), Sigmoid(),
                          BatchNorm2d(5))

    one, two = twins(make)
    x = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
    y, z = one(Tensor(x)), apart(two, Tensor(x))
    np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-4, atol=1e-5)
    names = operations(one, x)
    assert names.count("ActivatedBatchNorm") == 2
    assert names.count("BatchNorm") == 1
    assert not {"ReLU", "Sigmoid"} & set(names)


def test_containers_inside_containers():
    """Neighbours are looked for in one container, not over its edge."""
    assert operations(Sequential(Sequential(BatchNorm1d(4), ReLU()), Linear(4, 2)), X)[0] == "ActivatedBatchNorm"
    assert operations(Sequential(Sequential(Linear(4, 4), BatchNorm1d(4)), ReLU()), X)[-1] == "ReLU"


class OwnNorm(BatchNorm1d):
    """Another meaning, maybe."""


class OwnReLU(ReLU):
    def forward(self, x):
        return x * 3


@pytest.mark.parametrize("make", [
    lambda: Sequential(OwnNorm(4), ReLU()), lambda: Sequential(BatchNorm1d(4), OwnReLU()),
    lambda: Sequential(BatchNorm1d(4), Tanh()), lambda: Sequential(BatchNorm1d(4), Linear(4, 2), ReLU()),
    lambda: Sequential(Linear(4, 4), ReLU()), lambda: Sequential(ReLU(), BatchNorm1d(4)),
    lambda: Sequential(BatchNorm1d(4)), lambda: Sequential(InstanceNorm1d(8), ReLU()),
], ids=["norm's subclass", "activation's subclass", "tanh", "not next", "no norm", "other order", "alone",
        "other norm"])
def test_other_pairs_are_left_alone(make):
    one, two = twins(make)
    x = X[None] if isinstance(one[0], InstanceNorm1d) else X
    assert "ActivatedBatchNorm" not in operations(one, x)
    assert np.array_equal(one(Tensor(x)).numpy(), apart(two, Tensor(x)).numpy())


def test_nothing_to_call():
    assert Sequential()(X) is X


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize("place", [0, 1])
def test_hooks_on_either_see_what_they_saw(kind, place):
    one, two = twins(lambda: Sequential(BatchNorm1d(4), ReLU()))
    seen = []
    remove = getattr(one[place], kind)(lambda module, args, *output: seen.append((module, args[0], *output)))
    y = one(Tensor(X))
    assert np.array_equal(y.numpy(), apart(two, Tensor(X)).numpy())
    ((module, given, *output),) = seen
    assert module is one[place]
    middle = two[0](Tensor(X)).numpy()
    assert np.array_equal(given.numpy(), X if place == 0 else middle)
    wanted = [] if "pre" in kind else [middle if place == 0 else y.numpy()]
    assert [t.numpy().tolist() for t in output] == [a.tolist() for a in wanted]
    assert "ActivatedBatchNorm" not in operations(one, X)
    remove()
    assert operations(one, X) == ["ActivatedBatchNorm"]


def test_hooks_on_the_container_do_not_hinder():
    model = Sequential(BatchNorm1d(4), ReLU())
    outputs = []
    model.register_forward_hook(lambda module, args, output: outputs.append(output))
    assert operations(model, X) == ["ActivatedBatchNorm"]
    assert outputs[0].shape == X.shape


def test_observers_see_two_layers():
    watcher = Names()
    model = Sequential(BatchNorm1d(4), ReLU())
    with observe(watcher):
        model(Tensor(X))
    assert watcher.seen == ["BatchNorm", "ReLU"]


def test_evaluation_and_frozen_layers_are_left_alone():
    one, two = twins(lambda: Sequential(BatchNorm1d(4), ReLU()))
    for change in (lambda m: m.eval(), lambda m: m.train()[0].freeze()):
        change(one), change(two)
        before = {name: np.array(a) for name, a in one.state_dict().items()}
        assert operations(one, X) == ["BatchNormInference", "ReLU"]
        assert np.array_equal(one(Tensor(X)).numpy(), apart(two, Tensor(X)).numpy())
        assert all(np.array_equal(a, before[name]) for name, a in one.state_dict().items())


def test_without_running_statistics():
    model = Sequential(BatchNorm1d(4, track_running_stats=False), ReLU())
    for mode in (model.train, model.eval):
        mode()
        assert operations(model, X) == ["ActivatedBatchNorm"]


@pytest.mark.parametrize("tier", ["text", "numpy"])
def test_without_a_kernel_for_it_there_are_two_operations(tier):
    with kernels.tier(tier):
        assert operations(Sequential(BatchNorm1d(4), ReLU()), X) == ["BatchNorm", "ReLU"]


def test_arrays_and_no_grad():
    model = Sequential(BatchNorm1d(4), ReLU())
    wide = X.astype(np.float64)
    wanted = np.maximum((wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5), 0)
    with no_grad():
        found = model(Tensor(X))
    assert not found.requires_grad
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-6)
    np.testing.assert_allclose(model[0].running_var.numpy(), 0.9 + 0.1 * wide.var(0, ddof=1), rtol=1e-6)


def test_it_is_equal_to_its_definition():
    model = Sequential(Linear(4, 3), BatchNorm1d(3), Sigmoid(), BatchNorm1d(3), ReLU())
    assert prove_equal(model, X, show=False).equal
