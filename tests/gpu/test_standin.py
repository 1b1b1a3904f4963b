"""The stand-in itself: what it refuses, what it serves beyond the array API, and how CuPy's arrays get their names."""

import ast
import itertools
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import standin
from cases import CASES
from outside_array_api import OUTSIDE

import minigrad
import minigrad.functional as F
from minigrad import Tensor, backend, grad, optim
from minigrad.errors import DeviceError

pytestmark = pytest.mark.skipif(standin.strict is None, reason="array-api-strict is not installed")


@pytest.fixture
def x():
    with standin.playing():
        yield minigrad.ones(2, 3, device="cuda").data


REFUSED = {
    "float": lambda x: float(x[0, 0]), "int": lambda x: int(x[0, 0]), "bool": lambda x: bool(x[0, 0]),
    "if": lambda x: 1 if x[0, 0] > 0 else 0, "index": lambda x: [1, 2][x[0, 0]], "item": lambda x: x[0, 0].item(),
    "tolist": lambda x: x.tolist(), "asarray": np.asarray, "array": np.array, "numpy function": np.sum,
    "loop": list, "max of Python": max, "in": lambda x: 1.0 in x,
    "array left": lambda x: np.ones((2, 3), np.float32) * x, "array right": lambda x: x + np.ones((2, 3), np.float32),
    "array in a function": lambda x: standin.maximum(x, np.zeros((2, 3), np.float32)),
    "array in a list": lambda x: standin.concat([x, np.zeros((2, 3), np.float32)]),
    "array as a key": lambda x: x[np.array([0, 1])],
    "array written": lambda x: x.__setitem__(0, np.ones(3, np.float32)),
    "scalar of NumPy's": lambda x: x * np.float32(2),
    "two dtypes": lambda x: x + standin.astype(x, np.int64),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_read_or_mix_is_refused(name, x):
    with pytest.raises((TypeError, ValueError)):
        REFUSED[name](x)


@pytest.mark.parametrize("ask", [lambda x: x.sum(), lambda x: x.T, lambda x: x.max(), lambda x: x.reshape(3, 2),
                                 lambda x: standin.ravel, lambda x: standin.add.outer(x, x),
                                 lambda x: standin.float16])
def test_names_outside_the_standard_are_refused(ask, x):
    with pytest.raises(AttributeError):
        ask(x)


def test_the_one_way_to_the_host_is_counted(x):
    before = standin.reads
    assert backend.to_numpy(x).tolist() == [[1.0] * 3] * 2
    assert backend.number(x[0, 0]) == 1.0
    assert standin.reads == before + 2


def test_sums_in_another_order(x):
    a = np.random.default_rng(0).standard_normal((50, 60))
    there = standin.asarray(a)
    for found, wanted in ((standin.sum(there, axis=0), a.sum(0)), (standin.matmul(there, there.mT), a @ a.T)):
        assert not np.array_equal(found.get(), wanted)
        np.testing.assert_allclose(found.get(), wanted, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------ the list


def _step():
    w = minigrad.Parameter([1.0, 2.0], device="cuda")
    w.grad = minigrad.ones(2, device="cuda")
    optim.SGD([w], lr=0.1).step()


def _clip():
    w = minigrad.Parameter([1.0, 2.0], device="cuda")
    w.grad = minigrad.ones(2, device="cuda")
    optim.clip_grad_norm_([w], 1.0)


def _frequency():
    weight = minigrad.ones(4, 2, device="cuda", requires_grad=True)
    F.embedding(Tensor(np.array([0, 0, 1]), device="cuda"), weight, scale_grad_by_freq=True).sum().backward()


def _case(case):
    xs = [Tensor(a, device="cuda", requires_grad=a.dtype.kind == "f") for a in case.draw()]
    y = case.call(*xs)
    if y.requires_grad:
        grad(y.sum(), [x for x in xs if x.requires_grad])


NEEDING = {str(case): lambda case=case: _case(case) for case in CASES} | {
    "SGD": _step, "clip_grad_norm_": _clip, "embedding by frequency": _frequency}


def test_the_list_is_short():
    assert len(OUTSIDE) <= 15
    assert all(entry.reason for entry in OUTSIDE.values())


@pytest.mark.parametrize("name", OUTSIDE)
def test_each_name_is_needed(name, monkeypatch):
    run = NEEDING[OUTSIDE[name].needed_by]
    with standin.playing():
        run()
        assert name in standin.used
        monkeypatch.setattr(standin, "withheld", {name})
        with pytest.raises(AttributeError, match="outside the array API"):
            run()


# ------------------------------------------------------------------ what it has to find


def test_masks_and_counts_left_on_the_host_are_found(monkeypatch):
    """Without the step that brings them over, the rows with masks and counts fail: as they did on a GPU."""
    for module in ("attention", "gathering", "normalization"):
        monkeypatch.setattr(sys.modules[f"minigrad.ops.{module}"], "beside", lambda x, other: x)
    with standin.playing():
        failed = {str(case) for case in CASES if case.name != "cast" and _fails(case)}
    assert failed == {"batch_norm-mask", "batch_norm_inference-mask", "layer_norm-mask", "attention-mask",
                      "repeat-repeats=[2, 0, 1],axis=-1",
                      *(str(case) for case in CASES if case.name == "pad" and "mode" in case.option)}


def _fails(case):
    try:
        case.call(*(Tensor(a, device="cuda") for a in case.draw()))
    except DeviceError as error:
        return "cpu and cuda:0" in str(error)
    return False


# ------------------------------------------------------------------ CuPy's names


def test_names_come_from_array_api_compat(monkeypatch):
    package, names = types.ModuleType("array_api_compat"), types.ModuleType("array_api_compat.cupy")
    package.cupy = names
    monkeypatch.setitem(sys.modules, "array_api_compat", package)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", names)
    assert backend._names_of.__wrapped__(types.ModuleType("cupy")) is names


def test_without_it_cupys_own_names_serve(monkeypatch):
    """As CuPy 14 has them: NumPy's, but for the arguments of argsort."""
    monkeypatch.setitem(sys.modules, "array_api_compat", None)
    cupy = types.ModuleType("cupy")
    cupy.sum = np.sum
    cupy.argsort = lambda a, axis=-1, kind=None: (a, axis, kind)
    names = backend._names_of.__wrapped__(cupy)
    assert names.sum is np.sum
    assert names.argsort("a", axis=0, stable=True) == ("a", 0, "stable")
    assert names.argsort("a") == ("a", -1, "stable")
    with pytest.raises(AttributeError):
        names.no_such_name  # noqa: B018


def test_cupy_is_known_to_the_backend_alone():
    """Of all that computes: kernels and what drives the GPU itself are for CuPy."""
    root = Path(minigrad.__file__).parent
    files = itertools.chain((root / f"{name}.py" for name in ("op", "engine", "tensor", "creation", "methods")), *(
        Path(package).glob("**/*.py") for package in (
            root / "ops", root / "functional", Path(minigrad.layers.__file__).parent, Path(optim.__file__).parent)))
    seen = 0
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = {getattr(node, key, None) for key in ("id", "attr", "module")}
            named |= {alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)}
            assert not {str(n).split(".")[0] for n in named} & {"cupy", "cupyx", "array_api_compat"}, file
        seen += 1
    assert seen > 60

