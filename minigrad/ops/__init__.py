"""The operations: each a class with its formula, and a function of the array API's name where there is one.

This module is also the namespace that a Tensor answers with: a text that runs on NumPy arrays with NumPy's functions
runs on Tensors with these. Given arrays and no Tensor, every function computes and returns arrays.

What a module here lists in `__all__` is public, and has a row in `tests/cases.py`.
"""

from types import FunctionType

from minigrad.ops.activation import *
from minigrad.ops.arithmetic import *
from minigrad.ops.attention import *
from minigrad.ops.convolution import *
from minigrad.ops.creation import *
from minigrad.ops.cumulative import *
from minigrad.ops.einsum import *
from minigrad.ops.elementwise import *
from minigrad.ops.gathering import *
from minigrad.ops.indexing import *
from minigrad.ops.linear_batch_norm import *
from minigrad.ops.local_response import *
from minigrad.ops.loss import *
from minigrad.ops.matmul import *
from minigrad.ops.norm import *
from minigrad.ops.normalization import *
from minigrad.ops.pooling import *
from minigrad.ops.random import dropout
from minigrad.ops.rearrange import *
from minigrad.ops.recurrent import *
from minigrad.ops.reduction import *
from minigrad.ops.rounding import *
from minigrad.ops.shape import *
from minigrad.ops.sorting import *
from minigrad.ops.statistics import *

astype = cast  # the array API's name for it

__all__ = sorted(name for name, x in vars().items() if isinstance(x, FunctionType))
