"""What benchmarks/run.py does beside measuring: comparison, tables, the report, and what fails on the way."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="benchmarks/ is not part of a wheel")


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module("run")
    for name in {"run", "works", "peers"} & (set(sys.modules) - before):
        del sys.modules[name]


def found(run, ratio=0.5, error=1e-7, failed=None):
    return {"seconds": {"minigrad": 0.002 * ratio, "torch eager": 0.002}, "base": "torch eager",
            "ratios": {"minigrad": ratio, "torch eager": 1.0}, "errors": {"minigrad": error}, "failed": failed or {}}


def test_difference_is_relative_to_the_largest_element(run):
    wanted = {"y": np.array([[1.0, -4.0]]), "g": np.array([2.0])}
    assert run.difference({"y": np.array([1.0, -3.0]), "g": np.array([2.0])}, wanted) == 0.25
    assert run.difference({"g": np.array([3.0])}, wanted) == 0.5
    assert run.difference({}, wanted) == 0


def test_table(run):
    text = run.table({"one": found(run), "two": {**found(run), "base": None, "ratios": {}}},
                     ["minigrad", "torch eager"]).text()
    assert "torch eager, ms" in text
    one, two = text.splitlines()[-2:]
    assert one.split() == ["one", "2", "0.50", "1e-07"]
    assert two.split() == ["two", "1e-07"]


def test_differences_beyond_the_tolerance_are_told(run):
    assert run.differing({"a": found(run), "b": found(run, error=0.1), "c": found(run, error=float("nan"))}) == [
        "b: minigrad differs from float64 by 1.0e-01", "c: minigrad differs from float64 by nan"]


def report(run, folder):
    works = {name: found(run, 0.25) for name in run.WORKS}
    first = next(iter(works))
    works[first]["failed"] = {"mygrad": f"mygrad ended at values of {first}: MemoryError"}
    environment = {"cpu": "A Fine CPU", "cores": 2, "minigrad": "0", "python": "3", "numpy": "2", "blas": "some",
                   "libraries": {"torch": "2"}}
    results = {"threads": 2, "rounds": 3, "works": works, "memory": {"minigrad": 3 * 2**20},
               "import": {"minigrad": 0.0123}, "left_out": {"tinygrad": "no clang"}}
    path = run.written(folder, environment, results, ["minigrad", "torch eager"])
    return path, path.read_text(encoding="utf-8"), results


def test_the_report(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    path, text, results = report(run, tmp_path / "new")
    assert path.name.startswith("cpu-a-fine-cpu-")
    for said in ("0.25", "minigrad 3", "minigrad 12", "- left out: tinygrad, no clang", "- failed: mygrad ended"):
        assert said in text
    assert "growth with" not in text
    assert ".svg" not in text
    held = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert held["works"] == results["works"]
    assert not list(path.parent.glob("*.svg"))


def test_the_plot(run, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    path, text, _ = report(run, tmp_path)
    assert path.with_suffix(".svg").name in text
    drawn = path.with_suffix(".svg").read_text(encoding="utf-8")
    assert drawn.count("<path") > 10


class Fake:
    """A library that fails at one of its turns."""

    def __init__(self, name, lasts):
        self.name, self.left = name, lasts

    def ask(self, do, work, **more):
        if not self.left:
            raise RuntimeError(f"{self.name} ended")
        self.left -= 1
        return 1.0


def test_a_library_that_fails_leaves_the_others_to_go_on(run):
    told = {}
    times = run.take_turns([Fake("a", 9), Fake("b", 2), Fake("c", 0)], "work", 5, told)
    assert times == {"a": [1.0] * 5}
    assert set(told) == {"b", "c"}


def test_what_cannot_be_measured_says_why(run, monkeypatch):
    monkeypatch.setattr(run, "installed", lambda package: package == "tinygrad")
    monkeypatch.setattr(run.shutil, "which", lambda name: None)
    assert "clang" in run.obstacle("tinygrad")
    assert run.obstacle("jax.jit") == "jax is not installed"


def test_every_work_is_of_a_known_network(run):
    for work in run.WORKS.values():
        if work.kind in ("step", "growth"):
            shape, stack = run.sys.modules["works"].network_of(work)
            assert stack[-1][-1] == 10
            assert shape[0] >= 16
