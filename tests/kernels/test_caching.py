"""Compiled loops are found again in numba's cache by later processes."""

import pytest

numba = pytest.importorskip("numba")

LOOPS = [("channels", name, parallel, activation) for name in ("planes", "columns") for parallel in (False, True)
         for activation in ("", "relu", "sigmoid")]
LOOPS += [("elementwise_loops", way, True, name) for way in ("forward", "backward") for name in ("sigmoid", "silu")]
LOOPS += [("rows", "rows", True, centred) for centred in (False, True)]
LOOPS += [("rows", "groups", True), ("entropy_loops", "cross_entropy", True), ("windows", "products", True),
          ("windows", "single", True), ("windows", "channel_sums", True), ("loops", "max_pool", True),
          ("loops", "max_pool_inside", True, 2, 2, 2, 2), ("loops", "scatter", True), ("loops", "averaged", False),
          ("loops", "scatter_apart", True, 2, 2), ("elementwise_loops", "dropped", True),
          ("updates", "sgd", True, True, True, True, True, True), ("updates", "adam", True, True, True, True, True)]


@pytest.mark.parametrize("loop", LOOPS, ids=str)
def test_no_loop_holds_a_compiled_function_in_a_closure(loop):
    """Compiled functions have other identities in every process, and closures are part of the cache's keys."""
    from minigrad.kernels.compiled import blas, loading

    if loop[0] == "windows" and not blas.available():
        pytest.skip("no BLAS of its own for the loops")
    made = loading.loops(*loop)
    for function in made if isinstance(made, tuple) else (made,):
        held = [cell.cell_contents for cell in function.py_func.__closure__ or ()]
        assert not [h for h in held if isinstance(h, numba.core.dispatcher.Dispatcher)]
        assert function._cache.__class__.__name__ == "FunctionCache"
