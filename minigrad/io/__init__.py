"""Files: states as safetensors."""

from minigrad.io.states import load, save

__all__ = ["load", "save"]
