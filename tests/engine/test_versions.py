"""A write between forward and backward is refused where it would make the derivative wrong, and nowhere else."""

import gc
import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, ops, versions
from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.optim import SGD, Adam


def leaf(*values):
    return Tensor(np.array(values, np.float64), requires_grad=True)


@pytest.mark.parametrize("write", [
    lambda x: x.assign(0), lambda x: x.detach().assign(0), lambda x: Tensor(x.data).assign(0),
    lambda x: Tensor(x.data[1:2]).assign(0), lambda x: Tensor(x.data[::-1]).assign(0),
    lambda x: Tensor(x.data.reshape(1, 3)).assign(0), lambda x: Tensor(x.numpy()).assign(1),
    lambda x: x.detach()[1:].detach().assign(0),
], ids=["leaf", "detached", "shared", "part", "reversed", "reshaped", "numpy", "slice of detached"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_writes_to_what_backward_needs_are_refused(write, create_graph):
    x, w = leaf(1, 2, 3), leaf(4, 5, 6)
    y = (x * w).sum()
    write(x)
    with pytest.raises(GraphError, match=r"backward of Multiply.*input 0 of shape \(3,\), changed in place"):
        mg.grad(y, (x, w), create_graph=create_graph)


def test_writes_to_a_kept_output_are_refused():
    x = leaf(1, 2)
    y = ops.exp(x)
    y.detach().assign(0)
    with pytest.raises(GraphError, match=r"backward of Exp.*output 0"):
        y.sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("write", [
    lambda base: Tensor(base[3:]).assign(9), lambda base: Tensor(np.array(base)).assign(9), lambda base: base.copy(),
], ids=["other half", "copy", "no write"])
def test_writes_elsewhere_are_fine(write):
    base = np.arange(6.0)
    x = Tensor(base[:3], requires_grad=True)
    y = (x * x).sum()
    write(base)
    y.backward()
    assert x.grad.tolist() == [0, 2, 4]


def test_writes_to_what_nothing_needs_are_fine():
    x, w = leaf(1, 2), leaf(3, 4)
    y = ((x + w) * 2).sum()
    x.assign(7)
    y.backward()
    assert x.grad.tolist() == [2, 2]
    z = (x * w.detach()).sum()  # for the gradient of x alone, w is kept and x is not
    x.assign(8)
    z.backward()
    assert x.grad.tolist() == [5, 6]


def test_writes_before_the_forward_pass_and_after_backward_are_fine():
    x = leaf(1, 2)
    for _ in range(3):
        x.grad = None
        x.assign(x.numpy() + 1)
        (x * x).sum().backward()
        assert x.grad.tolist() == (2 * x.numpy()).tolist()


def test_a_write_between_first_and_second_backward():
    x = leaf(2.0)
    (g,) = mg.grad(x * x * x, x, create_graph=True)
    x.assign(5.0)
    with pytest.raises(GraphError, match="changed in place"):
        mg.grad(g, x)


def test_the_refusal_names_the_layer():
    scope = ((None, "", "Net"), "first", "Linear")
    x = leaf(2.0)
    with mg.modes.switch(scope=scope):
        y = x * x
    x.assign(5.0)
    with pytest.raises(GraphError, match=r"backward of Multiply in layer first \(Linear\)"):
        y.backward()


@pytest.mark.parametrize(("value", "result"), [
    (5, [5, 5]), (np.array([3, 4]), [3, 4]), (Tensor([7]), [7, 7]), (2.75, [2.75, 2.75]),
], ids=["number", "array", "tensor", "fraction"])
def test_assign(value, result):
    x = leaf(1, 2)
    memory = x.data
    assert x.assign(value) is x
    assert x.data is memory
    assert x.tolist() == result
    assert x.dtype == np.float64


def test_assign_casts_to_the_dtype_it_finds():
    x = Tensor(np.zeros(2, np.float32))
    assert x.assign(np.array([1.5, 2.5])).dtype == np.float32


@pytest.mark.parametrize(("tensor", "value", "error", "said"), [
    (lambda: leaf(1, 2), np.ones(3), ShapeError, r"shape \(3,\); wanted one that broadcasts to \(2,\)"),
    (lambda: leaf(1, 2), np.ones((1, 2)), ShapeError, r"\(1, 2\)"),
    (lambda: leaf(1, 2) * 2, 0, GraphError, "a result of Multiply; wanted a leaf"),
    (lambda: Tensor(np.broadcast_to(np.ones(1), 3)), 0, GraphError, "read-only"),
    (lambda: leaf(1, 2), "a", DtypeError, "elements of dtype <U1"),
    (lambda: leaf(1, 2), 1j, DtypeError, "elements of dtype complex128"),
], ids=["longer", "more axes", "result", "read-only", "text", "complex"])
def test_assign_refuses_and_changes_nothing(tensor, value, error, said):
    x = tensor()
    before = x.tolist()
    tick = versions.newest
    with pytest.raises(error, match=said):
        x.assign(value)
    assert x.tolist() == before
    assert versions.newest == tick


def test_the_log_forgets_freed_memory():
    gc.collect()
    before = len(versions._log)
    many = [Tensor(np.zeros(3)).assign(1) for _ in range(100)]
    assert len(versions._log) == before + 100
    del many
    kept = Tensor(np.zeros(3))
    for _ in range(100):
        kept.assign(1)
    assert len(versions._log) == before + 1


def test_an_owner_and_its_views():
    """What owns its memory is logged as a whole; an empty view of it touches nothing."""
    base = np.zeros(10)
    Tensor(base).assign(1)
    tick = versions.newest
    assert versions.written(base) == versions.written(base[4:6]) == versions.written(base[::-3]) == tick
    assert versions.written(base[3:3]) == 0


def test_overlap_is_by_bytes():
    base = np.zeros(10)
    Tensor(base[2:5]).assign(1)
    tick = versions.newest
    assert versions.written(base) == versions.written(base[4:6]) == versions.written(base[:3]) == tick
    assert versions.written(base[:2]) < tick
    assert versions.written(base[5:]) < tick
    assert versions.written(base[4:1:-1]) == tick
    assert versions.written(base[3:3]) < tick


@pytest.mark.parametrize("make", [lambda ps: SGD(ps, 0.1), lambda ps: Adam(ps, 0.1)], ids=["SGD", "Adam"])
@pytest.mark.parametrize("array", [np.ones((3, 4)), np.ones((3, 4), np.float32, order="F"), np.ones((6, 4))[::2],
                                   np.array(1.0), np.ones((1, 5, 1), np.float32)],
                         ids=["C", "Fortran", "every second row", "no axes", "axes of one"])
def test_every_step_of_an_optimizer_is_logged(make, array):
    """An optimizer asks once where a parameter's writes are logged, and again when the parameter has other memory."""
    p = mg.Parameter(array.copy(order="K") if array.flags.forc else array)
    optimizer = make([p])
    for step in range(4):
        if step == 2:
            p.data = np.array(p.numpy() * 2)
        y = ops.sum(p * p)
        p.grad = Tensor(np.ones_like(p.data))
        optimizer.step()
        with pytest.raises(GraphError, match="changed in place"):
            y.backward()
        ops.sum(p * p).backward()


def test_threads_that_write_first_at_the_same_time_find_one_log(monkeypatch):
    def slow(*args):
        time.sleep(0.05)
        return weakref.ref(*args)

    monkeypatch.setattr(versions, "weakref", SimpleNamespace(ref=slow))
    base, found = np.zeros(8), []
    threads = [threading.Thread(target=lambda: found.append(versions.place_of(base[2:]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0][0] is found[1][0]
