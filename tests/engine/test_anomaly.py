"""The anomaly detector names operation, layer and line of the first NaN."""

import numpy as np
import pytest

from minigrad import Tensor, detect_anomaly, grad, layers
from minigrad.errors import GraphError


def test_forward_names_the_line(recwarn):
    x = Tensor([-1.0, 4.0], requires_grad=True)
    with detect_anomaly(), pytest.raises(GraphError, match=r"forward of Sqrt.*anomaly\.py:\d+, in .*: x\.sqrt\(\)"):
        x.sqrt()


def test_backward_names_the_line_of_the_forward(recwarn):
    x = Tensor([0.0], requires_grad=True)
    with detect_anomaly():
        y = x.sqrt()
        z = (y * 0.0).sum()
        with pytest.raises(GraphError, match=r"backward of Sqrt.*input 0.*test_anomaly\.py:\d+.*: y = x\.sqrt\(\)"):
            z.backward()


def test_backward_names_the_layer(recwarn):
    class Root(layers.Module):
        def forward(self, x):
            return x.sqrt() * 0.0

    model = layers.Sequential(layers.Identity(), Root())
    x = Tensor([0.0], requires_grad=True)
    with detect_anomaly():
        y = model(x).sum()
        with pytest.raises(GraphError, match=r"in layer 1 \(Root\)"):
            y.backward()


def test_the_gradient_of_a_number_is_watched_too(recwarn):
    """Arithmetic on arrays without axes gives NumPy's scalars."""
    x = Tensor(np.array(0.0), requires_grad=True)
    with detect_anomaly(), pytest.raises(GraphError, match="backward of Sqrt"):
        (x.sqrt() * 0.0).backward()


def test_a_line_of_an_outer_block_is_known_in_an_inner_one(recwarn):
    x = Tensor([0.0], requires_grad=True)
    with detect_anomaly():
        y = x.sqrt() * 0.0
        with detect_anomaly(), pytest.raises(GraphError, match=r"called at .*: y = x\.sqrt\(\)"):
            y.backward()


def test_numbers_pass_and_a_nan_that_came_in_is_not_blamed_on_who_passed_it_on():
    x = Tensor([1.0, np.nan], requires_grad=True)
    with detect_anomaly():
        (g,) = grad((x * 2.0).sum(), x)
    assert g.tolist() == [2.0, 2.0]
