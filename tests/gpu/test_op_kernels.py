"""CUDA kernels of operations and optimizers on a GPU, by the cases that are run on the CPU in tests/cuda_on_cpu too."""

import numpy as np
import pytest
from cuda_cases import CASES, CONVOLUTIONS, ENTROPY, POOLING, SPECIAL, check, dtypes, same_bits, special
from kernels_and_texts import derivatives
from optimizer_cases import ALL, SOME, name

from minigrad.backend import cuda_problem
from minigrad.kernels.cuda import convolution
from minigrad.optim import Adam

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(cuda_problem()), reason=cuda_problem())]


@pytest.mark.parametrize("dtype", dtypes().values(), ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_values_and_gradients(case, dtype):
    check(case, dtype)


@pytest.mark.parametrize("case", CONVOLUTIONS[:5], ids=lambda case: case.name)
def test_columns_of_one_image_at_a_time(monkeypatch, case):
    monkeypatch.setattr(convolution, "COLUMNS", 1)
    check(case, np.dtype(np.float32))


@pytest.mark.parametrize("case", [*ENTROPY, *POOLING], ids=lambda case: case.name)
def test_repeated_runs_give_the_same_bits(case):
    arrays = [a.astype(np.float32) for a in case.arrays()]
    runs = [derivatives(case.function, arrays, device="cuda") for _ in range(5)]
    assert all(np.array_equal(a, b) for other in runs[1:] for a, b in zip(other, runs[0]))


@pytest.mark.parametrize("case", SPECIAL)
def test_infinite_and_undefined_numbers(case):
    special(case)


@pytest.mark.parametrize(("cls", "options"), ALL, ids=name)
def test_updates_bit_for_bit(cls, options):
    same_bits(cls, options)


@pytest.mark.parametrize("dtype", list(dtypes().values())[1:], ids=str)
@pytest.mark.parametrize(("cls", "options"), SOME, ids=name)
def test_half_precision_updates_are_rounded_once(cls, options, dtype):
    same_bits(cls, options, dtype=dtype)


def test_updates_of_more_parameters_than_one_launch_takes():
    same_bits(Adam, {"lr": 0.01}, order="F", shapes=[(3, 2)] * 70 + [(64, 70)])
