"""The device of the GPU's tests: a GPU, where there is one, and a stand-in everywhere, so that no test lies idle."""

import pytest
import standin

from minigrad import kernels
from minigrad.backend import cuda_problem

PROBLEM = cuda_problem()
REAL = [pytest.mark.gpu, pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM)]


@pytest.fixture(params=["stand-in", pytest.param("GPU", marks=REAL)])
def real(request):
    """Whether "cuda" is a GPU inside the test."""
    if request.param == "GPU":
        yield True
        return
    if standin.strict is None:
        pytest.skip("array-api-strict is not installed")
    with standin.playing():
        yield False


@pytest.fixture(params=["stand-in", pytest.param("GPU", marks=REAL), pytest.param("GPU-texts", marks=REAL)])
def real_or_texts(request):
    """As `real`, and on a GPU once more with the kernels off."""
    if request.param == "stand-in":
        if standin.strict is None:
            pytest.skip("array-api-strict is not installed")
        with standin.playing():
            yield False
    elif request.param == "GPU-texts":
        with kernels.disabled():
            yield True
    else:
        yield True
