"""Which parameters are kept out of weight decay, and the import name of the package."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from minigrad import Parameter
from minigrad.errors import ArgumentError, DtypeError
from minigrad.layers import BatchNorm1d, LayerNorm, Linear, Module, Sequential
from minigrad.optim import SGD, parameter_groups


class Net(Module):
    def __init__(self):
        super().__init__()
        self.body = Sequential(Linear(4, 6), BatchNorm1d(6), Linear(6, 6))
        self.norm = LayerNorm((2, 3))
        self.scale = Parameter(np.ones(6))
        self.mix = Parameter(np.ones((6, 6)))

    def forward(self, x):
        return x


def by_name(groups):
    return {group["name"]: set(group["param_names"]) for group in groups}


def test_normalizations_biases_and_vectors_are_kept_out():
    assert by_name(parameter_groups(Net(), 0.1)) == {
        "decay": {"body.0.weight", "body.2.weight", "mix"},
        "no decay": {
            "body.0.bias", "body.1.weight", "body.1.bias", "body.2.bias", "norm.weight", "norm.bias", "scale",
        },
    }


def test_every_parameter_comes_once_with_its_name():
    model = Net()
    groups = parameter_groups(model, 0.1)
    named = {name: p for group in groups for name, p in zip(group["param_names"], group["params"])}
    assert named.keys() == dict(model.named_parameters()).keys()
    assert all(named[name] is p for name, p in model.named_parameters())
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


def test_subclasses_of_normalizations_count():
    class Mine(LayerNorm):
        pass

    assert by_name(parameter_groups(Mine((2, 3)), 0.1)) == {"no decay": {"weight", "bias"}}


def test_a_matrix_called_bias_is_kept_out():
    class Biased(Module):
        def __init__(self):
            super().__init__()
            self.bias = Parameter(np.ones((2, 2)))

    assert by_name(parameter_groups(Biased(), 0.1)) == {"no decay": {"bias"}}


def test_shared_parameters_come_once_and_without_decay_if_one_owner_says_so():
    class Tied(Module):
        def __init__(self):
            super().__init__()
            self.first = Linear(3, 2, bias=False)
            self.second = Linear(3, 2, bias=False)
            self.second.weight = self.first.weight
            self.norm = LayerNorm((2, 3))
            self.mix = self.norm.weight

    groups = by_name(parameter_groups(Tied(), 0.1))
    assert groups["decay"] == {"first.weight"}
    assert len(groups["no decay"]) == 2


def test_only_the_first_group_decays():
    model = Net()
    optimizer = SGD(parameter_groups(model, 0.5), lr=1.0)
    before = {name: p.numpy().copy() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = p.detach().zeros_like()
    optimizer.step()
    for name, p in model.named_parameters():
        kept = 0.5 if name in ("body.0.weight", "body.2.weight", "mix") else 1.0
        assert np.array_equal(p.numpy(), before[name] * np.float32(kept))
    assert "decay: 3 parameters" in repr(optimizer)


def test_negative_decay_is_refused():
    with pytest.raises(ArgumentError, match="weight_decay=-1"):
        parameter_groups(Net(), -1)


def test_what_is_no_module_is_refused():
    with pytest.raises(DtypeError, match="got a list; wanted a Module"):
        parameter_groups([Net()], 0.1)


def test_the_bare_name_is_refused():
    path = Path(__file__).resolve().parents[2] / "optim" / "__init__.py"
    spec = importlib.util.spec_from_file_location("optim", path)
    with pytest.raises(ImportError, match=r"minigrad\.optim"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
