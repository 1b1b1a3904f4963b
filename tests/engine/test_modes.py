"""no_grad and its relatives: nesting, decorators, exceptions, threads and coroutines."""

import asyncio
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, ops
from minigrad.modes import current, layer_path, switch

X = Tensor(np.ones(2), requires_grad=True)


def recorded():
    """Whether operations of one, two and more inputs leave nodes, which must be all or none."""
    found = {y.requires_grad for y in (X * 2, ops.exp(X), ops.where(True, X, 0.0), ops.sum(X))}
    assert len(found) == 1
    return found.pop()


def test_nesting():
    assert recorded()
    with mg.no_grad():
        assert not recorded()
        with mg.enable_grad():
            assert recorded()
            with mg.no_grad():
                assert not recorded()
            assert recorded()
        assert not recorded()
    assert recorded()


@pytest.mark.parametrize("enabled", [True, False])
def test_by_a_flag(enabled):
    with mg.set_grad_enabled(enabled):
        assert mg.is_grad_enabled() is enabled
        assert recorded() is enabled
    assert mg.is_grad_enabled()


def test_leaves_made_inside_no_grad_can_require_gradients():
    with mg.no_grad():
        w = Tensor([1.0], requires_grad=True)
        assert (w * 2).is_leaf
    assert (w * 2).requires_grad


def test_decorators():
    @mg.no_grad()
    def evaluate(x, depth=0):
        """Says it."""
        return evaluate(x, depth - 1) if depth else (x * 2).requires_grad

    @mg.enable_grad()
    def train():
        return recorded()

    assert evaluate(X) is False
    assert evaluate(X, depth=3) is False
    assert (evaluate.__name__, evaluate.__doc__) == ("evaluate", "Says it.")
    with mg.no_grad():
        assert train()
        assert not recorded()
    assert recorded()


def test_one_switch_used_twice_and_inside_itself():
    off = mg.no_grad()
    with off, off:
        assert not recorded()
    assert recorded()
    with off:
        assert not recorded()
    assert recorded()


def test_one_switch_in_two_threads():
    off, inside, left = mg.no_grad(), threading.Event(), threading.Event()
    seen = []

    def other():
        with off:
            inside.set()
            left.wait(10)
            seen.append(recorded())
        seen.append(recorded())

    thread = threading.Thread(target=other)
    with off:
        thread.start()
        inside.wait(10)
    assert recorded()
    left.set()
    thread.join(10)
    assert seen == [False, True]


def test_functions_that_would_run_outside_are_not_decorated():
    def generator():
        yield

    async def coroutine():
        pass

    async def both():
        yield

    for function in (generator, coroutine, both):
        with pytest.raises(TypeError, match="with` block inside it"):
            mg.no_grad()(function)


def test_exceptions_restore_the_mode():
    with pytest.raises(ZeroDivisionError), mg.no_grad(), mg.enable_grad():
        raise ZeroDivisionError
    assert recorded()

    @mg.no_grad()
    def fails():
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert recorded()


def test_threads_do_not_see_each_other():
    seen, inside, checked = {}, threading.Event(), threading.Event()

    def off():
        with mg.no_grad():
            inside.set()
            checked.wait(10)
            seen["off"] = recorded()

    def on():
        inside.wait(10)
        seen["on"] = recorded()
        checked.set()

    threads = [threading.Thread(target=f) for f in (off, on)]
    for t in threads:
        t.start()
    inside.wait(10)
    assert recorded()
    for t in threads:
        t.join(10)
    assert seen == {"off": False, "on": True}


def test_a_new_thread_starts_recording():
    seen = []
    with mg.no_grad():
        thread = threading.Thread(target=lambda: seen.append(recorded()))
        thread.start()
        thread.join(10)
    assert seen == [True]


def test_threads_differentiate_at_once():
    """Graphs of several threads over one leaf: numbers of nodes are drawn from one clock."""
    found = {}

    def work(k):
        y = X
        for _ in range(200):
            y = y * 1.01
        found[k] = mg.grad((y * k).sum(), X)[0].numpy()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    for k in range(4):
        np.testing.assert_allclose(found[k], k * 1.01**200, rtol=1e-12)


def test_coroutines_do_not_see_each_other():
    async def off():
        with mg.no_grad():
            await asyncio.sleep(0)
            return recorded()

    async def on():
        await asyncio.sleep(0)
        return recorded()

    async def both():
        return await asyncio.gather(off(), on(), off())

    assert asyncio.run(both()) == [False, True, False]


def test_switch_changes_only_what_it_names():
    before = current()
    with switch(scope=(None, "", "Net")):
        assert current().scope == (None, "", "Net")
        assert current().recording
        with mg.no_grad():
            assert current().scope == (None, "", "Net")
    assert current() is before


@pytest.mark.parametrize(("scope", "path"), [
    (None, ""),
    ((None, "", "Net"), "(Net)"),
    (((None, "", "Net"), "0", "Linear"), "0 (Linear)"),
    ((((None, "", "Net"), "features", "Sequential"), "1", "BatchNorm2d"), "features.1 (BatchNorm2d)"),
], ids=["outside", "outermost", "inner", "nested"])
def test_layer_path(scope, path):
    assert layer_path(scope) == path
