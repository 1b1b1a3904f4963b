"""Files: states as safetensors, and checkpoints that are complete or not there."""

from minigrad.io.checkpoint import read_checkpoint, write_checkpoint
from minigrad.io.files import replace_file
from minigrad.io.states import load, save

__all__ = ["load", "read_checkpoint", "replace_file", "save", "write_checkpoint"]
