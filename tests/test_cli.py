"""The command `minigrad`."""

import subprocess
import sys

import pytest

import minigrad
from minigrad import cli, selftest
from minigrad.examples import _setup, compare_batchnorm


def test_usage_and_version(capsys):
    assert cli.main([]) == 0
    assert "minigrad train" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"minigrad {minigrad.__version__}\n"


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["train", "--help"], ["check", "-h"]])
def test_help_is_no_error(arguments, capsys):
    assert cli.main(arguments) == 0
    assert "minigrad train" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["mlp"], ["cnn"], ["mlp", "--compare", "none,batch"]])
def test_a_trainers_help_says_each_default_once(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["train", *arguments, "--help"])
    said = capsys.readouterr().out
    assert exit.value.code == 0
    assert said.startswith("usage: minigrad train")
    assert "None" not in said
    assert ") (default" not in " ".join(said.split())


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
    (["paint"], "no command 'paint'"),
    (["train"], "train needs a network"),
    (["train", "rnn"], "got rnn"),
    (["check", "now"], "takes no arguments"),
    (["train", "mlp", "--epochs", "0"], "'0' is not a whole number of at least 1"),
    (["train", "mlp", "--batch-size", "many"], "'many' is not a whole number of at least 1"),
    (["train", "mlp", "--seed", "-1"], "'-1' is not a whole number of at least 0"),
    (["train", "mlp", "--lr", "nan"], "'nan' is not a number above 0"),
    (["train", "mlp", "--lr", "fast"], "'fast' is not a number above 0"),
    (["train", "cnn", "--device", "gpu"], "wanted 'cpu', 'cuda'"),
    (["train", "mlp", "--compare", "none,batch", "--every", "0"], "'0' is not a whole number of at least 1"),
    (["train", "mlp", "--compare", "none,batch", "--grid", "1,inf"], "'inf' is not a number above 0"),
    (["train", "mlp", "--compare", "none,batch", "--norm", "batch"], "--norm"),
])
def test_wrong_usage_exits_with_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    assert exit.value.code == 2
    assert said in capsys.readouterr().err


def test_train_hands_its_options_on(tmp_path, capsys):
    assert cli.main(["train", "mlp", "--tiny", "--norm", "layer", "--out", str(tmp_path / "run")]) == 0
    assert "test images right" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "said"), [
    (["--limit", "30"], "at least one whole batch"),
    (["--limit", "4", "--compare", "none,batch"], "at least 5"),
    (["--tiny", "--batch-size", "1"], "layer 2 (BatchNorm1d)"),
    (["--tiny", "--out", "full"], "a run never overwrites another"),
    (["--tiny", "--out", "full/file/run"], "cannot create run directory"),
])
def test_what_goes_wrong_is_one_line_and_no_traceback(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    assert cli.main(["train", "mlp", *options]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("minigrad train: error: ")
    assert error.count("\n") == 1
    assert (tmp_path / "full" / "file").read_text() == "kept"


def test_a_comparison_is_refused_its_directory_before_it_works(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(compare_batchnorm, "choose_rate", lambda *_: pytest.fail("worked"))
    assert cli.main(["train", "mlp", "--compare", "none,batch", "--out", str(tmp_path)]) == 1
    assert "a run never overwrites another" in capsys.readouterr().err


def test_an_interrupted_training_keeps_its_metrics(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_setup.Record, "epoch", interrupted)
    assert cli.main(["train", "mlp", "--tiny", "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == f"minigrad train: interrupted; go on with --resume {tmp_path / 'run'}\n"
    assert '"accuracy"' in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")


def test_it_is_a_module_too():
    done = subprocess.run([sys.executable, "-m", "minigrad", "--version"], capture_output=True, text=True, check=True,
                          cwd=sys.prefix)
    assert done.stdout.startswith("minigrad ")


def test_importing_minigrad_imports_neither_cupy_nor_torch():
    code = ("import sys, minigrad, minigrad.layers, minigrad.optim; "
            "print([m for m in ('cupy', 'torch', 'numba') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=sys.prefix)
    assert done.stdout.strip() == "[]"
