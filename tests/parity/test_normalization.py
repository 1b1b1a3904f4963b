"""Normalizations against torch: functional forms, half precision, ε by default, running statistics."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from oracle import same  # noqa: E402

from minigrad import Tensor, functional, layers  # noqa: E402

F = torch.nn.functional
RNG = np.random.default_rng(0)
X, W, B = RNG.normal(size=(3, 4, 5)), RNG.normal(size=4), RNG.normal(size=4)
MEAN, VARIANCE = RNG.normal(size=4), RNG.uniform(0.5, 2, 4)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(training):
    for given in ((X, W, B), (X,), (X[:, :, 0], W, B)):
        same(lambda x, w=None, b=None: functional.batch_norm(x, MEAN, VARIANCE, w, b, training, eps=0.01),
             lambda x, w=None, b=None: F.batch_norm(x, torch.tensor(MEAN), torch.tensor(VARIANCE), w, b, training,
                                                    eps=0.01), *given)


def test_instance_norm():
    same(functional.instance_norm, F.instance_norm, X)
    same(lambda x, w, b: functional.instance_norm(x, None, None, w, b), lambda x, w, b: F.instance_norm(
        x, None, None, w, b), X, W, B)
    same(lambda x, w, b: functional.instance_norm(x, MEAN, VARIANCE, w, b, False),
         lambda x, w, b: F.instance_norm(x, torch.tensor(MEAN), torch.tensor(VARIANCE), w, b, False), X, W, B)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(groups):
    same(lambda x, w, b: functional.group_norm(x, groups, w, b), lambda x, w, b: F.group_norm(x, groups, w, b), X, W, B)


def test_over_last_axes():
    w, b = RNG.normal(size=(4, 5)), RNG.normal(size=(4, 5))
    same(lambda x, w, b: functional.layer_norm(x, (4, 5), w, b), lambda x, w, b: F.layer_norm(x, (4, 5), w, b), X, w, b)
    for eps in (None, 0.1):
        same(lambda x, w, e=eps: functional.rms_norm(x, (4, 5), w, e), lambda x, w, e=eps: F.rms_norm(x, (4, 5), w, e),
             X, w)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_local_response_norm(size):
    same(lambda x: functional.local_response_norm(x, size, 0.7, 0.6, 1.3),
         lambda x: F.local_response_norm(x, size, 0.7, 0.6, 1.3), X)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_epsilon_of_rms_norm_by_default(dtype):
    x = np.full((1, 4), 1e-4 if dtype != "float16" else 1e-2, dtype)
    found, wanted = functional.rms_norm(x, 4), F.rms_norm(torch.tensor(x), (4,)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3 if dtype == "float16" else 2e-6)


@pytest.mark.parametrize("name", ["GroupNorm", "LayerNorm", "InstanceNorm1d", "BatchNorm1d", "RMSNorm"])
def test_half_precision(name):
    """float16 input to a float16 layer, at scale 300."""
    args = {"GroupNorm": (2, 4), "LayerNorm": (5,), "RMSNorm": (5,)}.get(name, (4,))
    x = (RNG.normal(size=(6, 4, 5)) * 300).astype(np.float16)
    ours, theirs = getattr(layers, name)(*args).to("float16"), getattr(torch.nn, name)(*args).half()
    y = ours(Tensor(x))
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.numpy(), theirs(torch.tensor(x)).detach().numpy(), atol=5e-3)


def test_running_statistics_of_instance_norm_over_many_steps():
    ours = layers.InstanceNorm2d(3, momentum=0.2, track_running_stats=True)
    theirs = torch.nn.InstanceNorm2d(3, momentum=0.2, track_running_stats=True)
    for seed in range(10):
        x = (np.random.default_rng(seed).normal(size=(1 + seed % 3, 3, 4, 2)) * (seed + 1) + seed).astype(np.float32)
        ours(Tensor(x)), theirs(torch.tensor(x))
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(getattr(ours, name).numpy(), getattr(theirs, name).numpy(), rtol=1e-5)
