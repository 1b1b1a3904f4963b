"""The command `minigrad`."""

import subprocess
import sys

import pytest

import minigrad
from minigrad import cli, selftest


def test_usage_and_version(capsys):
    assert cli.main([]) == 0
    assert "minigrad train" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"minigrad {minigrad.__version__}\n"


def test_check_passes_and_shows_the_environment(capsys):
    assert cli.main(["check"]) == 0
    said = capsys.readouterr().out
    assert "numpy: " in said
    assert said.count("ok ") == len(list(selftest.parts()))


def test_check_reports_what_failed(capsys, monkeypatch):
    def broken():
        raise ArithmeticError("2 is not 3")

    monkeypatch.setattr(selftest, "parts", lambda: iter([("sums", broken)]))
    assert cli.main(["check"]) == 1
    assert "FAILED sums" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "said"), [
    (["paint"], "invalid choice"),
    (["train"], "train needs a network"),
    (["train", "rnn"], "got rnn"),
    (["check", "now"], "takes no arguments"),
])
def test_wrong_usage_exits_with_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    assert exit.value.code == 2
    assert said in capsys.readouterr().err


def test_train_hands_its_options_on(tmp_path, capsys):
    assert cli.main(["train", "mlp", "--tiny", "--norm", "layer", "--out", str(tmp_path / "run")]) == 0
    assert "test images right" in capsys.readouterr().out


def test_it_is_a_module_too():
    done = subprocess.run([sys.executable, "-m", "minigrad", "--version"], capture_output=True, text=True, check=True,
                          cwd=sys.prefix)
    assert done.stdout.startswith("minigrad ")


def test_importing_minigrad_imports_neither_cupy_nor_torch():
    code = ("import sys, minigrad, minigrad.layers, minigrad.optim; "
            "print([m for m in ('cupy', 'torch', 'numba') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=sys.prefix)
    assert done.stdout.strip() == "[]"
