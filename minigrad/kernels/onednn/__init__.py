"""Convolution by oneDNN (extra `onednn`), for the CPU: the library that PyTorch uses too, called without a compiler.

It is loaded when the first convolution that suits it runs, not before.
"""

from minigrad.kernels.onednn.library import installed, problem

if installed():
    from minigrad.kernels.onednn import convolution

    __all__ = ["convolution", "problem"]
