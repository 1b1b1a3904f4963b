"""What a text may return: mistakes in somebody's own operation are named, none becomes a wrong gradient."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from minigrad.errors import ArgumentError, DtypeError, GraphError, ShapeError


def leaf(*values):
    return Tensor(np.array(values, np.float64), requires_grad=True)


def doubled(backward, **facts):
    """An operation 2x whose backward returns what `backward` makes of the gradient."""
    body = {"forward": lambda self, *xs: 2 * xs[0], "backward": lambda self, saved, needs, gy: backward(gy)}
    return type("Doubled", (mg.Op,), body | facts)()


def test_a_right_one():
    x = leaf(1, 2, 3)
    assert mg.grad(mg.apply(doubled(lambda gy: (2 * gy,)), x).sum(), x)[0].tolist() == [2, 2, 2]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(("backward", "error", "said"), [
    (lambda gy: 2 * gy, GraphError, r"backward of Doubled in layer 0 \(Net\): got .* its text; wanted a tuple of 1"),
    (lambda gy: (gy, gy), GraphError, r"got a tuple of 2 from its text; wanted a tuple of 1"),
    (lambda gy: None, GraphError, r"got NoneType from its text"),
    (lambda gy: (gy.sum(),), ShapeError, r"got a gradient of shape \(\) for input 0; wanted the input's, \(3,\)"),
    (lambda gy: (gy[None],), ShapeError, r"got a gradient of shape \(1, 3\) for input 0"),
    (lambda gy: (2.0,), ShapeError, r"got a gradient of shape None"),
], ids=["no tuple", "too many", "nothing", "sum", "more axes", "number"])
def test_what_backward_returns_must_fit(backward, error, said, create_graph):
    """Without these checks, zip() would take the first row of an array for the gradient of the first input."""
    x = leaf(1, 2, 3)
    with mg.modes.switch(scope=((None, "", "Model"), "0", "Net")):
        y = mg.apply(doubled(backward), x * x)
    with pytest.raises(error, match=said):
        mg.grad(y.sum(), x, create_graph=create_graph)
    with pytest.raises(error):
        y.sum().backward()
    assert x.grad is None


def test_with_broadcasts_the_engine_sums():
    x = leaf(1, 2, 3)
    y = mg.apply(doubled(lambda gy: (2 * gy, None), broadcasts=True), x, np.ones((4, 3)))
    assert mg.grad(y.sum(), x)[0].tolist() == [2, 2, 2]
    y = mg.apply(doubled(lambda gy: (np.ones(5), None), broadcasts=True), x, np.ones((4, 3)))
    with pytest.raises(ShapeError, match=r"a gradient of shape \(5,\) for input 0"):
        mg.grad(y.sum(), x)


def test_the_number_of_outputs_must_fit():
    class Two(mg.Op):
        """(x, x), but only the first is returned: as an array of two rows, it would pass for two outputs."""

        n_out = 2

        def forward(self, x):
            return x

    with pytest.raises(ArgumentError, match="forward of Two: got ndarray from its text; wanted a tuple of 2 outputs"):
        mg.apply(Two(), leaf(1, 2))


@pytest.mark.parametrize("error", [KeyError("k"), ShapeError("mine"), ZeroDivisionError()],
                         ids=lambda e: type(e).__name__)
def test_other_errors_pass_as_they_are(error):
    class Fails(mg.Op):
        """Raises."""

        def forward(self, x):
            raise error

    with pytest.raises(type(error)) as raised:
        mg.apply(Fails(), leaf(1, 2))
    assert raised.value is error
    assert error.__cause__ is None  # its own cause would be a cycle


@pytest.mark.parametrize("other", [1j, "a", np.array([1j]), {}, object()], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("call", [
    lambda x, o: x + o, lambda x, o: mg.multiply(o, x), lambda x, o: mg.where(x > 0, x, o),
], ids=["add", "multiply", "where"])
def test_what_is_no_number_is_refused(call, other):
    with pytest.raises(DtypeError, match="bool, integers or floating point"):
        call(leaf(1, 2), other)


def test_numbers_out_of_range_are_refused_by_name():
    with pytest.raises(ArgumentError, match=r"Add: got int8\[1\], 300\. .*out of bounds"):
        Tensor(np.ones(1, np.int8)) + 300
