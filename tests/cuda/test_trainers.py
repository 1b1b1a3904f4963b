"""The trainers with --device cuda, on a stand-in for CuPy: every array of a run is on the device, or is moved there."""

import json

import cupy_on_numpy
import numpy as np
import pytest
from safetensors.numpy import load_file

from minigrad import cli
from minigrad.data import Subset
from minigrad.examples import _setup, char_model


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    real = _setup._read
    monkeypatch.setattr(_setup, "_read", lambda name, train, folder, full: few(real(name, train, folder, full), train))
    with cupy_on_numpy.installed(monkeypatch) as state:
        yield state


def few(data, train):
    """100 of the test images."""
    if train:
        return data
    part = Subset(data, range(100))
    part.source = data.source
    return part


@pytest.mark.parametrize(("network", "options"), [
    ("mlp", ["--ema", "0.9", "--clip", "1", "--accumulate", "2"]), ("mlp", ["--precision", "mixed"]),
    ("cnn", ["--batch-size", "30", "--label-smoothing", "0.1"]),
])
def test_a_run_on_the_gpu_is_one_on_the_cpu(tmp_path, monkeypatch, network, options):
    monkeypatch.setenv("MINIGRAD_KERNELS", "text")
    common = ["train", network, "--limit", "120", "--epochs", "1", *options]
    for device in ("cpu", "cuda"):
        assert cli.main([*common, "--device", device, "--out", str(tmp_path / device)]) == 0
    here, there = (load_file(tmp_path / device / "model.safetensors") for device in ("cpu", "cuda"))
    assert here.keys() == there.keys()
    assert max(np.abs(here[name] - there[name]).max() for name in here) < (1e-2 if "mixed" in options else 1e-4)
    assert json.loads((tmp_path / "cuda" / "config.json").read_text())["device"] == "cuda:0"


def test_a_run_on_the_gpu_goes_on_where_it_stopped(tmp_path):
    common = ["--limit", "120", "--epochs", "1", "--device", "cuda"]
    run = str(tmp_path / "run")
    assert cli.main(["train", "mlp", *common, "--out", run]) == 0
    assert cli.main(["train", "mlp", "--resume", run, "--epochs", "2"]) == 0
    assert cli.main(["train", "mlp", *common[:3], "2", *common[4:], "--out", str(tmp_path / "whole")]) == 0
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert files[0] == files[1]


@pytest.mark.parametrize("kind", ["lstm", pytest.param("transformer", marks=pytest.mark.slow)])
def test_the_model_of_text(tmp_path, capsys, kind):
    assert char_model.main(["--tiny", "--model", kind, "--device", "cuda", "--out", str(tmp_path / "run")]) == 0
    assert "bits per character" in capsys.readouterr().out
