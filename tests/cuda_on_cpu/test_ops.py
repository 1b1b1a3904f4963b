"""Kernels of operations, run on the CPU, against the operations' texts in float64."""

import pytest
from cuda_cases import CASES, check, dtypes
from cuda_on_cpu.arrays import Function


@pytest.mark.parametrize("dtype", dtypes().values(), ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_values_and_gradients(cupy, case, dtype):
    before = len(Function.launched)
    check(case, dtype)
    assert case.kernels <= set(Function.launched[before:])
