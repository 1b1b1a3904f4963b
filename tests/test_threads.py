"""One number of threads for all libraries, as threadpoolctl sees them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import minigrad
from minigrad import threads
from minigrad.errors import ArgumentError, MinigradError

BEGIN = "import json, os, sys\nimport numpy as np\nimport minigrad\n"
#: What the libraries of products of matrices are set to, without SciPy's own, which serves the loops.
BLAS = ("import threadpoolctl\n"
        "def blas():\n"
        "    return [c.num_threads for c in threadpoolctl.ThreadpoolController().lib_controllers\n"
        "            if c.user_api == 'blas' and 'scipy.libs' not in c.filepath]\n")


def in_process(code, **variables):
    """What a fresh process prints, from JSON."""
    without = {name: value for name, value in os.environ.items() if not name.endswith("NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", BEGIN + code], env={**without, **variables}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def restored(monkeypatch):
    """Limits that other tests do not see."""
    calls = []
    monkeypatch.setattr(threads, "_limit", calls.append)
    monkeypatch.setattr(threads, "_count", None)
    return calls


@pytest.mark.parametrize("count", [0, -1, 1.0, 2.5, "2", None, True, np.nan, [1]], ids=repr)
def test_other_than_whole_numbers_are_refused(count, restored):
    with pytest.raises(ArgumentError, match=r"set_num_threads: got .*; wanted a whole number of at least 1"):
        minigrad.set_num_threads(count)
    assert not restored
    assert threads._count is None


def test_what_is_set_is_given_back(restored):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert minigrad.get_num_threads() == cores
    threads.apply_threads()
    assert restored == []
    minigrad.set_num_threads(3)
    assert minigrad.get_num_threads() == 3
    threads.apply_threads()
    assert restored == [3, 3]


def test_without_threadpoolctl_nothing_is_set(monkeypatch):
    monkeypatch.setattr(threads, "_count", None)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    before = minigrad.get_num_threads()
    with pytest.raises(MinigradError, match=r"no threadpoolctl(.|\n)*OPENBLAS_NUM_THREADS"):
        minigrad.set_num_threads(before + 1)
    assert minigrad.get_num_threads() == before


def test_libraries_are_limited():
    """NumPy's BLAS at once; numba's loops when they are loaded, which is later."""
    pytest.importorskip("threadpoolctl")
    pytest.importorskip("numba")
    code = BLAS + """
minigrad.set_num_threads(1)
found = [blas(), 'numba' in sys.modules]
minigrad.ops.relu(minigrad.Tensor(np.ones((4, 4), 'f'), True)).sum().backward()
import numba
found += [blas(), numba.get_num_threads()]
minigrad.set_num_threads(2)
found += [blas(), numba.get_num_threads(), minigrad.get_num_threads()]
minigrad.set_num_threads(10_000)
found += [numba.get_num_threads(), minigrad.get_num_threads()]
print(json.dumps(found))
"""
    first, loaded, second, loops, third, loops_of_two, count, most, asked = in_process(code, NUMBA_NUM_THREADS="2")
    assert set(first) == {1}
    assert loaded is False
    assert set(second) == {1}
    assert loops == 1
    assert set(third) == {2}
    assert (loops_of_two, count, most, asked) == (2, 2, 2, 10_000)


def test_blas_of_the_loops_keeps_one_thread():
    pytest.importorskip("threadpoolctl")
    pytest.importorskip("scipy")
    code = """
from minigrad.kernels.compiled import blas
import threadpoolctl
usable = blas.available()
minigrad.set_num_threads(2)
print(json.dumps([usable, [c.num_threads for c in threadpoolctl.ThreadpoolController().lib_controllers
                           if c.user_api == 'blas' and 'scipy.libs' in c.filepath]]))
"""
    usable, counts = in_process(code)
    assert counts == ([1] * len(counts) if usable else [])


def test_the_variable():
    pytest.importorskip("threadpoolctl")
    code = BLAS + "print(json.dumps([minigrad.get_num_threads(), minigrad.threads._count]))"
    assert in_process(code, MINIGRAD_NUM_THREADS="1") == [1, 1]
    assert in_process(code)[1] is None


@pytest.mark.parametrize("text", ["0", "two", "-1", "1.5", ""])
def test_the_variable_is_checked(text):
    done = subprocess.run([sys.executable, "-c", "import minigrad"], env={**os.environ, "MINIGRAD_NUM_THREADS": text},
                          capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "MINIGRAD_NUM_THREADS: got" in done.stderr
    assert "wanted a whole number of at least 1" in done.stderr


STEP = """
import minigrad.functional as F
from minigrad import Tensor, grad, ops
minigrad.set_num_threads(int(os.environ["COUNT"]))
rng = np.random.default_rng(0)
x = Tensor(rng.standard_normal((17, 8, 40, 40)).astype("f"), True)
w = Tensor((rng.standard_normal((16, 8, 3, 3)) / 8).astype("f"), True)
gamma, beta = (Tensor(rng.standard_normal(16).astype("f"), True) for _ in range(2))
v = Tensor((rng.standard_normal((10, 16 * 400)) / 80).astype("f"), True)
y = ops.convolution(x, w, None, (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
y = ops.batch_norm(y, gamma, beta, activation="relu")[0]
y = F.max_pool2d(y, 2)
s = ops.linear(minigrad.reshape(y, (17, -1)), v)
loss = F.cross_entropy(s, np.arange(17) % 10)
leaves = x, w, gamma, beta, v
np.savez(os.environ["FILE"], loss.numpy(), s.numpy(), *[g.numpy() for g in grad(loss, leaves)])
print(minigrad.get_num_threads())
"""


def test_results_with_one_and_two_threads(tmp_path):
    """A convolutional step, all of whose operations are large enough for threads."""
    pytest.importorskip("threadpoolctl")
    found = []
    for count in (1, 2):
        file = tmp_path / f"{count}.npz"
        assert in_process(STEP, COUNT=str(count), FILE=str(file)) == count
        with np.load(file) as arrays:
            found.append([arrays[name] for name in arrays.files])
    assert len(found[0]) == 7
    for a, b in zip(*found):
        assert np.abs(a - b).max() <= 1e-6 * np.abs(a).max()
