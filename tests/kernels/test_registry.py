"""Overlays: who serves a call, and that the text is there when nobody does."""

import numpy as np
import pytest

from minigrad import Op, Tensor, apply, grad, inputs, kernels
from minigrad.errors import ArgumentError


@pytest.fixture
def square():
    """A fresh operation with a text, and a list of who ran."""
    ran = []

    class Square(Op):
        """y = x²;   gx = 2·gy·x"""

        keeps = inputs(0)

        def forward(self, x):
            ran.append("text forward")
            return x * x

        def backward(self, saved, needs, gy):
            ran.append("text backward")
            return (gy * saved[0] * 2,)

    return Square, ran


def overlay(square, ran, phase, tier="all", when=None, name="kernel"):
    def kernel(op, *args):
        ran.append(f"{name} {phase}")
        return getattr(op, phase)(*args)

    kernels.accelerates(square, phase, tier=tier, when=when)(kernel)


def run(square, ran, create_graph=False):
    ran.clear()
    x = Tensor([3.0], requires_grad=True)
    (g,) = grad(apply(square(), x).sum(), x, create_graph=create_graph)
    assert g.tolist() == [6.0]
    return list(ran)


def test_without_a_kernel_the_text_runs(square):
    assert run(*square) == ["text forward", "text backward"]


def test_a_kernel_runs_and_a_recorded_backward_runs_the_text(square):
    for phase in ("forward", "backward"):
        overlay(*square, phase)
    assert run(*square) == ["kernel forward", "text forward", "kernel backward", "text backward"]
    assert "kernel backward" not in run(*square, create_graph=True)


def test_tiers(square):
    overlay(*square, "forward", tier="numpy", name="blocked")
    overlay(*square, "forward", tier="all", name="compiled")
    for tier, first in (("all", "compiled forward"), ("numpy", "blocked forward"), ("text", "text forward")):
        with kernels.tier(tier):
            assert run(*square)[0] == first
    with kernels.disabled():
        assert run(*square)[0] == "text forward"


def test_when_declines_and_the_latest_is_asked_first(square):
    overlay(*square, "forward", name="general")
    overlay(*square, "forward", when=lambda op, x: x.size > 1, name="large")
    assert run(*square)[0] == "general forward"
    square[1].clear()
    apply(square[0](), np.ones(2))
    assert square[1][0] == "large forward"


def test_a_kernel_of_another_device_is_not_asked(square):
    kernels.accelerates(square[0], "forward", device="cuda")(lambda op, x: 1 / 0)
    assert run(*square)[0] == "text forward"


def test_wrong_names_are_refused(square):
    with pytest.raises(ArgumentError, match="phase='sideways'"):
        kernels.accelerates(square[0], "sideways")
    with pytest.raises(ArgumentError, match="'quick'"):
        kernels.tier("quick")
