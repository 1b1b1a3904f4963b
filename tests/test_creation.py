"""New Tensors: values, dtypes, and random ones that a generator decides, against NumPy and their distributions."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import Generator, Tensor
from minigrad.errors import ArgumentError, ShapeError


@pytest.mark.parametrize(("found", "wanted"), [
    (mg.arange(5), np.arange(5)), (mg.arange(1, 2, 0.25), np.arange(1, 2, 0.25, dtype=np.float32)),
    (mg.eye(2, 3), np.eye(2, 3, dtype=np.float32)),
    (mg.full((2, 2), 3), np.full((2, 2), 3)), (mg.full((), 1.5), np.float32(1.5)),
    (mg.zeros(2, 3), np.zeros((2, 3), np.float32)),
    (mg.ones((2,), dtype=np.int64), np.ones(2, np.int64)), (mg.linspace(0, 1, 5),
                                                            np.linspace(0, 1, 5, dtype=np.float32)),
    (mg.logspace(0, 2, 3), np.logspace(0, 2, 3, dtype=np.float32)),
    (mg.logspace(0, 3, 4, base=2), np.array([1, 2, 4, 8], np.float32)),
    (mg.tensor([1, 2]), np.array([1, 2])), (mg.asarray([1.0], dtype=np.float64), np.array([1.0])),
])
def test_values(found, wanted):
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found.numpy(), wanted)


def test_sharing():
    array = np.ones(3)
    t = mg.asarray(array)
    assert t.data is array
    assert mg.asarray(t) is t
    assert mg.tensor(array).data is not array
    assert mg.empty_like(t).shape == (3,)
    assert mg.empty_like(t, dtype=np.float16).dtype == np.float16


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_meshgrid(indexing, count):
    xs = [np.arange(n + 2.0) for n in range(count)]
    for a, b in zip(mg.meshgrid(*map(Tensor, xs), indexing=indexing), np.meshgrid(*xs, indexing=indexing), strict=True):
        np.testing.assert_array_equal(a.numpy(), b)


def test_meshgrid_is_differentiable():
    x = Tensor(np.arange(3.0), requires_grad=True)
    mg.meshgrid(x, Tensor(np.ones(4)))[0].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [4, 4, 4])


RANDOM = {
    "rand": (lambda g: mg.rand(40_000, generator=g), 0.5, 1 / 12),
    "randn": (lambda g: mg.randn(40_000, generator=g), 0, 1),
    "normal": (lambda g: mg.normal(2.0, 3.0, 40_000, generator=g), 2, 9),
    "uniform": (lambda g: mg.uniform(-1, 3, (40_000,), generator=g), 1, 16 / 12),
    "randint": (lambda g: mg.randint(0, 3, 40_000, generator=g), 1, 2 / 3),
    "randn_like": (lambda g: mg.randn_like(mg.zeros(40_000), g), 0, 1),
    "rand_like": (lambda g: mg.rand_like(mg.zeros(40_000), g), 0.5, 1 / 12),
    "bernoulli": (lambda g: mg.bernoulli(mg.full(40_000, 0.3), g), 0.3, 0.21),
    "multinomial": (lambda g: mg.multinomial(Tensor([1.0, 0.0, 3.0]), 40_000, True, g), 1.5, 0.75),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers(name):
    make, mean, variance = RANDOM[name]
    x = make(Generator(1)).numpy().astype(np.float64)
    assert x.mean() == pytest.approx(mean, abs=5 * (variance / x.size) ** 0.5)
    assert x.var() == pytest.approx(variance, rel=0.05)
    np.testing.assert_array_equal(make(Generator(1)).numpy(), x)
    assert not np.array_equal(make(Generator(2)).numpy(), x)
    mg.manual_seed(7)
    first = make(None).numpy()
    mg.manual_seed(7)
    np.testing.assert_array_equal(make(None).numpy(), first)


def test_random_dtypes_and_permutations():
    assert mg.rand(2, dtype=np.float64).dtype == np.float64
    assert mg.rand_like(mg.zeros(2, dtype=np.float16)).dtype == np.float16
    assert sorted(mg.randperm(9).tolist()) == list(range(9))
    assert mg.multinomial(mg.ones(3, 4), 2).shape == (3, 2)


def test_drawing_without_replacement():
    w = Tensor(np.tile([5.0, 0.0, 1.0, 4.0], (20_000, 1)))
    found = mg.multinomial(w, 3, generator=Generator(3)).numpy()
    assert set(np.unique(found)) == {0, 2, 3}
    assert all(len(set(row)) == 3 for row in found[:100])
    np.testing.assert_allclose(np.bincount(found[:, 0], minlength=4) / 20_000, [0.5, 0, 0.1, 0.4], atol=0.02)
    after_0 = found[found[:, 0] == 0, 1]
    np.testing.assert_allclose(np.mean(after_0 == 3), 0.8, atol=0.02)


@pytest.mark.parametrize("make", [
    lambda: mg.normal(0.0, -1.0, 3), lambda: mg.uniform(2.0, 1.0, 3), lambda: mg.bernoulli(Tensor([1.5])),
    lambda: mg.multinomial(Tensor([1.0, 0.0]), 2),
    lambda: mg.multinomial(Tensor([-1.0, 2.0]), 1), lambda: mg.multinomial(Tensor([0.0, 0.0]), 1, True),
    lambda: mg.multinomial(Tensor([np.nan]), 1),
    lambda: mg.meshgrid(mg.ones(2), indexing="ji"),
])
def test_refusals(make):
    with pytest.raises(ArgumentError, match=r"got .*wanted"):
        make()
    with pytest.raises(ShapeError, match="one axis"):
        mg.meshgrid(mg.ones(2, 2))
