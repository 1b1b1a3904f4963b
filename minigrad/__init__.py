"""minigrad: a small autograd framework on NumPy, and on CuPy where there is a GPU, built around normalization."""

__version__ = "0.1.0"

from minigrad import errors
from minigrad.backend import Device
from minigrad.modes import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minigrad.op import Op, apply, inputs, outputs
from minigrad.ops import *  # noqa: F403
from minigrad.engine import grad, jvp, vjp
from minigrad.tensor import Buffer, Parameter, Tensor
from minigrad.creation import (
    arange, empty, eye, from_dlpack, full, linspace, ones, rand, randint, randn, randperm, tensor, zeros,
)
