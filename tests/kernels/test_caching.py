"""Compiled loops are found again in numba's cache by later processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

numba = pytest.importorskip("numba")

LOOPS = [("channels", name, parallel, activation) for name in ("planes", "columns") for parallel in (False, True)
         for activation in ("", "relu", "sigmoid")]
LOOPS += [("elementwise_loops", way, True, name) for way in ("forward", "backward") for name in ("sigmoid", "silu")]
LOOPS += [("rows", "rows", True, centred) for centred in (False, True)]
LOOPS += [("rows", "groups", True), ("entropy_loops", "cross_entropy", True), ("windows", "products", True),
          ("windows", "single", True), ("windows", "channel_sums", True), ("pooling_loops", "max_pool", True),
          ("pooling_loops", "max_pool_inside", True, 2, 2, 2, 2, 8), ("pooling_loops", "scatter", True),
          ("averages_loops", "averaged", False), ("pooling_loops", "scatter_apart", True, 2, 2, 8),
          ("elementwise_loops", "dropped", True),
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


COMPILING = """
import sys
import numpy as np
from minigrad import ops
x = np.random.default_rng(0).standard_normal((8, 3, 4, 4)).astype(np.float32)
wide = x.astype(np.float64)
wanted = (wide - wide.mean((0, 2, 3), keepdims=True)) / np.sqrt(wide.var((0, 2, 3), keepdims=True) + 1e-5)
ones = np.ones(3, np.float32)
for activation in sys.argv[1].split(","):
    for weight in (ones, None):
        y = ops.batch_norm(x, weight, None, activation=activation or None)[0]
        found = {"": wanted, "relu": np.maximum(wanted, 0), "sigmoid": 1 / (1 + np.exp(-wanted))}[activation]
        assert np.abs(y - found).max() < 1e-5, (activation, weight)
"""


def test_processes_that_compile_at_the_same_time_find_their_own_code(tmp_path):
    """numba numbers the files of compiled versions; without a lock, two processes take the same number."""
    orders = (",relu,sigmoid", "sigmoid,relu,", "relu,sigmoid,")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for _ in range(2):  # the second time, what the first has written is read
        running = [subprocess.Popen([sys.executable, "-c", COMPILING, order], env=environment, cwd=tmp_path)
                   for order in orders]
        assert [process.wait() for process in running] == [0] * len(orders)


DIGEST = """
import hashlib
import numpy as np
import minigrad.functional as F
from minigrad import Tensor, layers, manual_seed
manual_seed(0)
rng = np.random.default_rng(0)
digest = hashlib.sha256()
for layer, shape in ((layers.BatchNorm1d(37), (90, 37)), (layers.BatchNorm2d(5), (8, 5, 9, 7)),
                     (layers.LayerNorm(53), (40, 53)), (layers.GroupNorm(2, 6), (4, 6, 5, 5)),
                     (layers.Sequential(layers.BatchNorm1d(37), layers.Sigmoid()), (90, 37)),
                     (layers.Conv2d(3, 4, 3), (4, 3, 9, 9))):
    x = Tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
    y = layer(x)
    y.backward(Tensor(rng.standard_normal(y.shape).astype(np.float32)))
    for array in (y, x.grad, *(p.grad for p in layer.parameters())):
        digest.update(array.numpy().tobytes())
x = Tensor(rng.standard_normal((60, 10)).astype(np.float32), requires_grad=True)
F.cross_entropy(x, Tensor(np.arange(60) % 10)).backward()
digest.update(x.grad.numpy().tobytes())
print(digest.hexdigest())
"""


def test_what_was_just_compiled_gives_the_bits_that_the_cache_gives(tmp_path):
    """Else the first process after an installation would not repeat: sums across columns may not be reordered."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    found = [subprocess.run([sys.executable, "-c", DIGEST], env=environment, cwd=tmp_path, check=True, text=True,
                            capture_output=True).stdout for _ in range(2)]
    assert found[0] == found[1]


def test_a_file_of_loops_is_out_of_date_when_one_beside_it_changes(tmp_path):
    """Loops hold what they call of other files; numba's own stamp knows of one file alone."""
    from minigrad.kernels.compiled import caching

    folder, elsewhere = tmp_path / "loops", tmp_path / "other"
    for place in (folder, elsewhere):
        place.mkdir()
        (place / "a.py").write_text("a = 1\n")

    class Locator:
        def __init__(self, path):
            self._py_file = str(path)

        def get_source_stamp(self):
            return "own"

    stamps = set()
    for text in ("b = 1\n", "b = 2\n"):
        (folder / "b.py").write_text(text)
        located = type("Located", (Locator,), {})
        caching.stamp_together(located, folder)
        stamps.add(located(folder / "a.py").get_source_stamp())
        assert located(elsewhere / "a.py").get_source_stamp() == "own"
    assert len(stamps) == 2


def test_compiled_loops_have_the_stamp_of_their_folder():
    from minigrad.kernels.compiled import caching, loading

    run = loading.loops("averages_loops", "averaged", False)
    locator = run._cache._impl.locator
    assert locator.get_source_stamp()[1] == caching._contents(Path(loading.__file__).parent)


def test_threads_that_need_a_loop_first_at_the_same_time():
    """Each would have wrapped numba's cache, and the second lock on a file would have waited for the first."""
    code = """
import threading
import numpy as np
from minigrad import ops
x = np.ones((4, 3), np.float32)
threads = [threading.Thread(target=ops.batch_norm, args=(x,), daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
    assert not thread.is_alive()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
