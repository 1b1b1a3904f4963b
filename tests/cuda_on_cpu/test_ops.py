"""Kernels of operations, run on the CPU, against the operations' texts in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
from cuda_cases import CASES, CONVOLUTIONS, ENTROPY, POOLING, SPECIAL, check, dtypes, special
from cuda_on_cpu.arrays import Function
from kernels_and_texts import compare, derivatives

from minigrad import Tensor, functional, grad, ops
from minigrad.backend import namespace
from minigrad.cuda import _Names
from minigrad.errors import DeviceError
from minigrad.kernels.cuda import convolution, launch
from minigrad.modes import switch


@pytest.mark.parametrize("dtype", dtypes().values(), ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_values_and_gradients(cupy, case, dtype):
    before = len(Function.launched)
    check(case, dtype)
    assert case.kernels <= set(Function.launched[before:])


@pytest.mark.parametrize("case", CONVOLUTIONS[:5], ids=lambda case: case.name)
def test_columns_of_one_image_at_a_time(cupy, monkeypatch, case):
    monkeypatch.setattr(convolution, "COLUMNS", 1)
    before = len(Function.launched)
    check(case, np.dtype(np.float32))
    assert Function.launched[before:].count("im2col") == case.shapes[0][0] * (5 if case.order == 2 else 2)


@pytest.mark.parametrize("case", [*ENTROPY, *POOLING[:6]], ids=lambda case: case.name)
def test_the_order_of_threads_does_not_matter(cupy, case):
    """Threads run in the opposite order in every second launch: what they race for would differ."""
    arrays = [a.astype(np.float32) for a in case.arrays()]
    one = derivatives(case.function, arrays, device="cuda")
    Function.launched.append("")
    for a, b in zip(one, derivatives(case.function, arrays, device="cuda")):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", SPECIAL)
def test_infinite_and_undefined_numbers(cupy, name):
    special(name)


def test_convolutions_can_be_recorded(cupy, monkeypatch):
    """CuPy refuses its own products while a stream is capturing; the recorder's names have others."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4, 5, 5), (6, 2, 3, 3), (3, 6, 5, 5))]
    product, found = cupy.matmul, {}

    def refused(*factors):
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")

    for device in ("cpu", "cuda"):
        x, w, g = (Tensor(a, i < 2, device=device) for i, a in enumerate(arrays))
        names = _Names(namespace(cupy.empty(0)), SimpleNamespace(matmul=product))
        with monkeypatch.context() as patch, switch(graph=SimpleNamespace(names=names)):
            patch.setattr(cupy, "matmul", refused)
            y = functional.conv2d(x, w, padding=1, groups=2)
            found[device] = [y, *grad(y, (x, w), g)]
    assert Function.launched[-1] == "im2col"
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        np.testing.assert_allclose(there.numpy(), here.numpy(), rtol=1e-4, atol=1e-5)


#: What the kernels decline, and those that may run all the same.
DECLINED = {
    "float64": (lambda x: functional.conv2d(functional.max_pool2d(ops.gelu(x), 2), x[:, :, :3, :3]), np.float64, []),
    "a view": (lambda x: ops.sigmoid(x[:, ::2]), np.float32, ["sigmoid_backward"]),
    "another order": (lambda x: functional.avg_pool2d(x.swapaxes(1, 3), 2), np.float32, ["spread"]),
    "four axes": (lambda x: ops.max_pool(ops.reshape(x, (1, 4, 6, 6, 6, 1)), *[(2, 2, 2, 1)] * 2, (0,) * 4, (1,) * 4),
                  np.float32, []),
    "a target with a gradient": (lambda x: ops.cross_entropy(x, x, True), np.float32, ["columns_forward", "total"]),
    "a mask to broadcast": (lambda x: ops.dropout(x, Tensor(MASK, device=x.device), 0.5), np.float32, []),
}
MASK = np.random.default_rng(1).random((1, 6, 6, 6)) > 0.5


@pytest.mark.parametrize("name", DECLINED)
def test_calls_that_are_declined(cupy, name):
    function, dtype, launched = DECLINED[name]
    before = len(Function.launched)
    compare(function, [np.random.default_rng(0).standard_normal((4, 6, 6, 6))], 1e-5, dtype, "cuda")
    assert Function.launched[before:] == launched


#: Functions of two arrays of one element.
CROSSWISE = {
    "silu": lambda x, y: ops.silu(x),
    "convolution": functional.conv2d,
    "a convolution's bias": lambda x, b: functional.conv2d(x, x, b.reshape(1)),
    "layer_norm": lambda x, w: ops.layer_norm(x, 1, None, w.reshape(1)),
    "inference": lambda x, w: ops.batch_norm_inference(x, w.reshape(1), w.reshape(1)),
    "dropout": lambda x, kept: ops.dropout(x, kept > 0, 0.5),
    "cross_entropy": lambda x, q: ops.cross_entropy(x, q, True),
}


def single(device):
    return Tensor(np.ones((1, 1, 1, 1), np.float32), device=device)


@pytest.mark.parametrize("name", list(CROSSWISE)[1:])
def test_arrays_of_the_host_are_refused_naming_both_devices(cupy, name):
    """One element would else be passed by value, where the kernel takes an address."""
    before = len(Function.launched)
    with pytest.raises(DeviceError, match=r"cpu.*cuda:0"):
        CROSSWISE[name](single("cuda"), single("cpu"))
    assert len(Function.launched) == before


@pytest.mark.parametrize("name", CROSSWISE)
def test_arrays_of_another_device_than_the_current_are_left_to_the_text(cupy, monkeypatch, name):
    """CuPy launches on its current device, and the kernels' results are made there."""
    before = len(Function.launched)
    CROSSWISE[name](single("cuda"), single("cuda"))
    assert len(Function.launched) > before
    before = len(Function.launched)
    monkeypatch.setattr(cupy.cuda.runtime, "getDevice", lambda: 1)
    CROSSWISE[name](single("cuda"), single("cuda"))
    assert len(Function.launched) == before


def test_every_device_is_asked_for_shared_memory(cupy, monkeypatch):
    """The limit that a kernel is given holds on one device."""
    macros = {"ELEMENT": "float", "HALF": 0, "VEC": 4, "THREADS": 32, "EPT": 1, "CENTRED": 1}
    one = launch.kernel("normalization_rows", "row_forward", 100_000, **macros)
    assert launch.kernel("normalization_rows", "row_forward", 100_000, **macros) is one
    monkeypatch.setattr(cupy.cuda.runtime, "getDevice", lambda: 1)
    other = launch.kernel("normalization_rows", "row_forward", 100_000, **macros)
    assert other is not one
    assert other.max_dynamic_shared_size_bytes == 100_000
