"""One launch for all parameters of an optimizer, run on the CPU, bit for bit against the optimizers' texts."""

import numpy as np
import pytest
from cuda_cases import dtypes, same_bits, trained
from cuda_on_cpu.arrays import Function
from optimizer_cases import ALL, SOME, name

from minigrad import Parameter, Tensor
from minigrad.kernels.cuda import updates
from minigrad.optim import SGD, Adam


@pytest.mark.parametrize(("cls", "options"), ALL, ids=name)
def test_bit_for_bit(cupy, cls, options):
    before = len(Function.launched)
    same_bits(cls, options)
    assert len(Function.launched) == before + 3  # one for each step


@pytest.mark.parametrize("dtype", list(dtypes().values())[1:], ids=str)
@pytest.mark.parametrize(("cls", "options"), SOME, ids=name)
def test_half_precision_is_rounded_once(cupy, cls, options, dtype):
    same_bits(cls, options, dtype=dtype)


def test_other_orders_and_more_parameters_than_one_launch_takes(cupy):
    before = len(Function.launched)
    same_bits(Adam, {"lr": 0.01}, order="F", shapes=[(3, 2)] * 70 + [(64, 70)])
    assert len(Function.launched) == before + 2 * 3


def test_groups_have_their_own_numbers(cupy):
    results = {}
    for device in ("cpu", "cuda"):
        params = [Parameter(Tensor(np.linspace(0, 1, n, dtype=np.float32), device=device)) for n in (5, 6)]
        optimizer = SGD([{"params": params[:1], "lr": 0.5}, {"params": params[1:], "momentum": 0.5}], lr=0.25)
        for _ in range(2):
            for p in params:
                p.grad = Tensor(np.ones(p.shape, np.float32), device=device)
            optimizer.step()
        results[device] = np.concatenate([p.numpy() for p in params])
    assert np.array_equal(results["cuda"], results["cpu"])


def test_gradients_in_another_order_take_the_text(cupy):
    p = Parameter(Tensor(np.arange(6, dtype=np.float32).reshape(2, 3), device="cuda"))
    p.grad = Tensor(np.asfortranarray(np.ones((2, 3), np.float32)), device="cuda")
    before = len(Function.launched)
    SGD([p], lr=1.0).step()
    assert len(Function.launched) == before
    assert np.array_equal(p.numpy(), np.arange(6, dtype=np.float32).reshape(2, 3) - 1)


def test_numbers_are_read_from_the_device_where_they_come_with_a_vector(cupy):
    class OnDevice(tuple):
        __slots__ = ()
        vector = cupy.asarray(np.array([0.5, 0, 0, 1], np.float32))

    p, g = (cupy.asarray(np.full(5, v, np.float32)) for v in (3, 2))
    for lr in (0.5, 0.25):
        OnDevice.vector[0] = lr
        updates.run(("sgd", False, False, False, False, False), [(p, (), g)], OnDevice([9.0] * 4))
    assert p.get().tolist() == [1.5] * 5


def test_training_is_the_same_with_and_without_kernels(cupy):
    a, b = (trained(Adam, {"lr": 0.01}, "cuda", tier)[0] for tier in ("all", "text"))
    assert all(np.array_equal(x, y) for x, y in zip(a, b))
