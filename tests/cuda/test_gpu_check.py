"""benchmarks/gpu_check.py without a GPU: arguments, reports of made-up figures, failures, and all on a stand-in."""

import importlib.util
import json
import sys
from pathlib import Path

import cupy_on_numpy
import pytest

from minigrad.backend import cuda_problem

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_check.py"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="benchmarks/ is not part of a wheel")


@pytest.fixture
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with cupy_on_numpy.installed(monkeypatch) as state:
        yield state


def made_up(**changes):
    measured = {
        "BatchNorm2d": {"ms": {"minigrad": 0.5, "PyTorch eager": 1.0},
                        "ratios": {"minigrad": 1.0, "PyTorch eager": 0.5},
                        "GB_per_s": {"minigrad": 1500.0, "PyTorch eager": 750.0},
                        "failed": {"torch.compile": "RuntimeError: no compiler"}},
        "step": {"ms": {"minigrad": 2.0, "minigrad replay": 0.25}, "ratios": {"minigrad": 1.0, "minigrad replay": 8.0},
                 "failed": {}}}
    return {"gpu": "NVIDIA H100 80GB HBM3", "date": "2001-02-03", "cupy": "14", "torch": None, "environment": {},
            "tests": {"passed": True, "said": "7 passed"}, "copy_GB_per_s": 3000.0, "measured": measured, "failed": {},
            "seconds": 12.0, **changes}


def test_a_report_of_made_up_figures(gpu_check, tmp_path):
    base = gpu_check.write(made_up(), tmp_path / "new")
    assert base.name == "gpu-h100-2001-02-03"
    text = base.with_suffix(".md").read_text(encoding="utf-8")
    for said in ("# NVIDIA H100 80GB HBM3, 2001-02-03", "Tests: 7 passed", "3,000 GB/s", "50%", "8.00", "0.25",
                 "PyTorch not installed", "BatchNorm2d, torch.compile (left out): RuntimeError: no compiler"):
        assert said in text, said
    assert json.loads(base.with_suffix(".json").read_text())["measured"]["step"]["ms"]["minigrad replay"] == 0.25


def test_a_report_where_nearly_all_failed(gpu_check, tmp_path):
    found = made_up(measured={}, failed={"copy": "MemoryError: no"}, copy_GB_per_s=None, gpu="Odd/Name",
                    tests={"passed": False, "said": ""}, torch="2")
    text = gpu_check.write(found, tmp_path).with_suffix(".md").read_text()
    assert "- copy: MemoryError: no" in text
    assert (tmp_path / "gpu-odd-name-2001-02-03.json").exists()


@pytest.mark.parametrize(("changes", "good"), [
    ({}, True), ({"failed": {"copy": "no"}}, False), ({"tests": {"passed": False, "said": "1 failed"}}, False)])
def test_what_counts_as_success(gpu_check, changes, good):
    assert gpu_check.succeeded(made_up(**changes)) is good


def test_all_of_it_on_a_stand_in(gpu_check, gpu, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "ROUNDS", 2)
    monkeypatch.setattr(gpu_check, "tests", lambda seconds: {"passed": True, "said": "0 passed"})
    assert gpu_check.main(["--small", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("gpu-*.json")
    found = json.loads(file.read_text())
    assert len(found["measured"]) == 4
    assert all(set(each["ms"]) == {"minigrad", "minigrad replay"} and not each["failed"]
               for each in found["measured"].values())
    assert found["torch"] is None
    assert "written to gpu-" in capsys.readouterr().out
    assert gpu.launches > 40


def test_a_part_that_fails_is_told_and_the_rest_goes_on(gpu_check, gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "ROUNDS", 1)

    def broken(*args):
        raise MemoryError("out of memory")

    monkeypatch.setattr(gpu_check, "copy_bandwidth", broken)
    monkeypatch.setattr(gpu_check.ops, "layer_norm", broken)
    assert gpu_check.main(["--small", "--out", str(tmp_path), "--only", "bandwidth,normalization"]) == 1
    text = next(tmp_path.glob("gpu-*.md")).read_text(encoding="utf-8")
    assert "- copy: MemoryError: out of memory" in text
    assert "LayerNorm 8×6, forward + backward, minigrad: MemoryError" in text
    assert "BatchNorm2d 4×3×5×5" in text
    assert "Traceback" in capsys.readouterr().err


def test_after_its_time_nothing_is_begun(gpu_check, gpu, tmp_path, capsys):
    assert gpu_check.main(["--small", "--out", str(tmp_path), "--seconds", "0", "--only", "steps"]) == 1
    assert "no time was left" in next(tmp_path.glob("gpu-*.md")).read_text(encoding="utf-8")


def test_pytest_that_cannot_start_is_a_failure(gpu_check, gpu, monkeypatch):
    monkeypatch.setattr(gpu_check.sys, "executable", "/nonexistent/python")
    assert not gpu_check.succeeded(gpu_check.check(["tests"], 60.0, True))


TESTS_FOR_A_GPU = """
import time
import pytest

pytestmark = pytest.mark.gpu

@pytest.mark.parametrize("number", range(40))
def test_number(number):
    time.sleep(0.2 if number == 12 else 0)
    assert number != 20

def test_without_a_package():
    pytest.importorskip("no_such_package")
"""


@pytest.fixture
def folder(gpu_check, tmp_path, monkeypatch):
    """A checkout with other tests for a GPU, for two processes."""
    root = gpu_check.ROOT
    (tmp_path / "pyproject.toml").write_text((root / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "tests" / "gpu").mkdir(parents=True)
    for name in ("standin.py", "outside_array_api.py", "gpu/conftest.py"):
        (tmp_path / "tests" / name).write_text((root / "tests" / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "tests" / "gpu" / "test_some.py").write_text(TESTS_FOR_A_GPU, encoding="utf-8")
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_check.os, "cpu_count", lambda: 4)


def test_several_processes_share_the_tests(gpu_check, folder):
    found = gpu_check.tests(60.0)
    assert not found["passed"]
    assert found["said"].startswith("1 failed, 39 passed, 1 skipped in ")
    assert found["said"].endswith(" by 2 processes")
    (failure,) = found["failures"]
    assert "test_number[20]" in failure
    assert failure in gpu_check.report(made_up(tests=found))


def test_tests_that_no_time_is_left_for_are_a_failure(gpu_check, folder):
    found = gpu_check.tests(0.01)
    assert not found["passed"]
    assert found["said"].startswith("2 passed in ")
    assert sum("no time was left for the rest" in line for line in found["failures"]) == 2


def test_arguments(gpu_check, capsys):
    with pytest.raises(SystemExit):
        gpu_check.main(["--only", "tests,nothing"])
    assert "nothing: wanted some of tests, bandwidth" in capsys.readouterr().err
    if cuda_problem():
        assert gpu_check.main([]) == 1
        assert "gpu-check: CuPy is" in capsys.readouterr().out
