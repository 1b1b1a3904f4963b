"""Checkpoints and PyTorch: our arrays load there, theirs load here, under the same names.

The convolution has no bias: BatchNorm takes it away again, so its gradient is rounding, which Adam would blow up.
"""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from minigrad import Tensor, io, layers, optim
from minigrad.io import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.parity


def ours():
    return layers.Sequential(layers.Conv2d(3, 4, 3, padding=1, bias=False), layers.BatchNorm2d(4), layers.ReLU(),
                             layers.Flatten(), layers.Linear(4 * 36, 5))


def theirs():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1, bias=False), torch.nn.BatchNorm2d(4),
                               torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5))


X = np.random.default_rng(0).standard_normal((6, 3, 6, 6)).astype(np.float32)


def same(mine, other):
    mine.eval(), other.eval()
    with torch.no_grad():
        wanted = other(torch.from_numpy(X)).numpy()
    got = mine(Tensor(X)).numpy()
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_a_checkpoint_of_ours_loads_in_torch(tmp_path):
    model = ours()
    model(Tensor(X))
    folder = write_checkpoint(tmp_path / "step-1", {"model": model.state_dict(),
                                                    "optimizer": optim.Adam(model.parameters()).state_dict()})
    other = theirs()
    other.load_state_dict(load_file(folder / "model.safetensors"))
    same(model, other)


def test_a_torch_model_loads_here(tmp_path):
    other = theirs()
    other(torch.from_numpy(X))
    save_file(other.state_dict(), tmp_path / "model.safetensors")
    model = ours()
    model.load_state_dict(io.load(tmp_path / "model.safetensors"))
    same(model, other)


def test_an_optimizer_of_ours_goes_on_in_torch(tmp_path):
    model, other = ours(), theirs()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(2):
        (model(Tensor(X)) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    saved = write_checkpoint(tmp_path / "c", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    other.load_state_dict(load_file(saved / "model.safetensors"))
    follower = torch.optim.Adam(other.parameters(), lr=0.01)
    state = read_checkpoint(saved)["optimizer"]["state"]
    for index, p in enumerate(other.parameters()):
        held = state[index]
        follower.state[p] = {"step": torch.tensor(float(held["step"])), "exp_avg": torch.from_numpy(held["exp_avg"]),
                             "exp_avg_sq": torch.from_numpy(held["exp_avg_sq"])}
    (other(torch.from_numpy(X)) ** 2).mean().backward()
    follower.step()
    (model(Tensor(X)) ** 2).mean().backward()
    optimizer.step()
    same(model, other)
