"""The trainers as a person runs them: options, resuming, exit codes, and where they write."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from limits import files_end_at
from safetensors.numpy import load_file

from minigrad import Tensor, cli, optim
from minigrad.data import DataLoader, FashionMNIST, Subset
from minigrad.errors import ArgumentError
from minigrad.examples import _precision, _setup, compare_options, train_cnn, train_mlp, train_resnet
from minigrad.examples._precision import Precision
from minigrad.examples._setup import Settings, Split
from minigrad.run import Record, Run
from minigrad.run.directory import read_config

SMALL = ["--limit", "360", "--epochs", "2", "--every", "2"]


@pytest.fixture(autouse=True)
def few_test_images(monkeypatch):
    """100 of them, and no full data sets."""
    real = _setup._read
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)

    def read(name, train, folder, full):
        data = real(name, train, folder, full)
        if train:
            return data
        part = Subset(data, range(100))
        part.source = data.source
        return part

    monkeypatch.setattr(_setup, "_read", read)


def train(out, *options, network="mlp"):
    return cli.main(["train", network, *SMALL, "--out", str(out), *options])


def metrics(run):
    return (run / "metrics.jsonl").read_bytes()


def weights(run):
    return (run / "model.safetensors").read_bytes()


EVERYTHING = ["--accumulate", "2", "--clip", "1", "--label-smoothing", "0.1", "--ema", "0.9", "--held-out", "0.2"]


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_metrics_are_the_same_bytes_whatever_the_workers(tmp_path, network):
    for workers in ("0", "1", "4"):
        assert train(tmp_path / workers, *EVERYTHING, "--workers", workers, network=network) == 0
    for workers in ("1", "4"):
        assert metrics(tmp_path / workers) == metrics(tmp_path / "0") != b""
        assert weights(tmp_path / workers) == weights(tmp_path / "0")


@pytest.mark.parametrize(("network", "options"), [
    ("mlp", EVERYTHING), ("cnn", []), ("resnet", ["--augment", "--batch-size", "15", "--limit", "45", "--every", "9"]),
    ("mlp", ["--precision", "mixed", "--limit", "240"]),
    ("cnn", ["--precision", "mixed", "--limit", "192", "--ema", "0.9"]),
])
def test_a_trainer_that_is_broken_off_goes_on_bit_equal(tmp_path, capsys, network, options):
    assert train(tmp_path / "whole", *options, network=network) == 0
    with pytest.MonkeyPatch.context() as patch:
        real = Record.check

        def check(self, *rest):
            if self.steps == 4:
                raise KeyboardInterrupt
            real(self, *rest)

        patch.setattr(Record, "check", check)
        assert train(tmp_path / "run", *options, "--checkpoint-every", "3", network=network) == 130
    assert f"go on with --resume {tmp_path / 'run'}" in capsys.readouterr().err
    assert cli.main(["train", network, "--resume", str(tmp_path / "run"), "--workers", "2"]) == 0
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    assert read_config(tmp_path / "run")["workers"] == 2


def test_a_resumed_run_keeps_its_settings(tmp_path, capsys):
    run = str(tmp_path / "run")
    assert train(run, "--norm", "layer", "--lr", "0.2") == 0
    for arguments, said in ((["mlp", "--resume", run, "--lr", "0.5"], "not to be given --lr"),
                            (["mlp", "--resume", run, "--out", "x"], "--out"),
                            (["cnn", "--resume", run], "is a run of mlp"),
                            (["mlp", "--resume", str(tmp_path)], "no config.json")):
        with pytest.raises(SystemExit) as exit:
            cli.main(["train", *arguments])
        assert exit.value.code == 2
        assert said in capsys.readouterr().err
    assert cli.main(["train", "mlp", "--resume", run, "--epochs", "3", "--lr", "0.2"]) == 0
    assert read_config(tmp_path / "run")["epochs"] == 3
    assert train(tmp_path / "long", "--norm", "layer", "--lr", "0.2", "--epochs", "3") == 0
    assert metrics(tmp_path / "run") == metrics(tmp_path / "long")


@pytest.mark.slow
def test_trainers_that_are_really_killed_go_on_bit_equal(tmp_path):
    """The command itself, killed with SIGKILL; `tests/run/test_resume.py` does this 200 times with less around it."""
    options = ["--limit", "1200", "--epochs", "3", "--every", "5", "--checkpoint-every", "1", "--ema", "0.9"]
    command = [sys.executable, "-m", "minigrad", "train", "mlp"]
    subprocess.run([*command, *options, "--out", "whole"], cwd=tmp_path, check=True, capture_output=True)
    draw, begun, kills = random.Random(0), False, 0
    while kills < 6:
        arguments = ["--resume", "run"] if begun else [*options, "--out", "run"]
        process = subprocess.Popen([*command, *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(1, 3))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        begun = (tmp_path / "run" / "config.json").exists()
        if process.returncode == 0:
            break
    subprocess.run([*command, "--resume", "run"], cwd=tmp_path, check=True, capture_output=True)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_one_part_or_several_give_the_same_gradient_without_batch_statistics(tmp_path):
    for count in ("1", "4"):
        assert train(tmp_path / count, "--norm", "layer", "--accumulate", count) == 0
    one, four = (load_file(tmp_path / count / "model.safetensors") for count in ("1", "4"))
    assert max(np.abs(one[name] - four[name]).max() for name in one) < 1e-5
    assert weights(tmp_path / "1") != b""


def test_each_option_changes_the_training(tmp_path):
    assert train(tmp_path / "plain") == 0
    for number, options in enumerate((["--clip", "0.1"], ["--label-smoothing", "0.2"], ["--ema", "0.5"],
                                      ["--precision", "float64"], ["--seed", "1"], ["--precision", "mixed"])):
        assert train(tmp_path / str(number), *options) == 0
        assert weights(tmp_path / str(number)) != weights(tmp_path / "plain"), options
    assert load_file(tmp_path / "3" / "model.safetensors")["1.weight"].dtype == np.float64


def test_mixed_precision_trains_as_well(tmp_path):
    found = {}
    for precision in ("float32", "mixed"):
        assert train(tmp_path / precision, "--precision", precision, "--limit", "1200") == 0
        found[precision] = json.loads((tmp_path / precision / "result.json").read_text())["test_accuracy"]
        assert load_file(tmp_path / precision / "model.safetensors")["1.weight"].dtype == np.float32
    assert found["float32"] > 0.5
    assert abs(found["float32"] - found["mixed"]) < 0.05
    newest = max((tmp_path / "mixed" / "checkpoints").iterdir())
    assert json.loads((newest / "state.json").read_text())["content"]["parts"]["scaler"]


def test_steps_that_overflow_are_left_out_and_then_training_goes_on(tmp_path, monkeypatch):
    real = optim.GradScaler.__init__
    monkeypatch.setattr(optim.GradScaler, "__init__", lambda self: real(self, init_scale=2.0**80))
    made = []
    monkeypatch.setattr(_precision, "Precision", lambda *given: made.append(Precision(*given)) or made[-1])
    monkeypatch.setattr(train_mlp, "Precision", _precision.Precision)
    assert train(tmp_path / "run", "--precision", "mixed", "--epochs", "30", "--limit", "240") == 0
    scaler = made[-1].scaler
    assert scaler.skipped > 40
    assert scaler.get_scale() < 2.0**40
    model = load_file(tmp_path / "run" / "model.safetensors")
    assert model["2.num_batches_tracked"] == 30 * 4 - scaler.skipped


def test_early_stopping_holds_images_out(tmp_path, capsys):
    assert train(tmp_path / "run", "--patience", "1", "--epochs", "40", "--lr", "30", "--norm", "none") == 0
    assert "held-out images at step" in capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "stopped early"
    assert result["epochs"] < 40
    assert (tmp_path / "run" / "checkpoints" / f"step-{result['best_step']:08d}").is_dir()
    assert "stopped early" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_divergence_exits_with_3_and_names_the_layer(tmp_path, capsys):
    assert train(tmp_path / "run", "--norm", "none", "--lr", "1e38") == 3
    error = capsys.readouterr().err
    assert error.startswith("minigrad train: diverged: step ")
    assert "layer 7 (Linear)" in error
    assert error.count("\n") == 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "diverged"


@pytest.mark.parametrize(("options", "said"), [
    (["--precision", "half"], "float32, float64 or mixed"),
    (["--ema", "1"], "from 0 to below 1"),
    (["--clip", "0"], "above 0"),
    (["--accumulate", "0"], "at least 1"),
    (["--dataset", "imagenet"], "invalid choice"),
])
def test_wrong_usage_exits_with_2(options, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        train(tmp_path / "run", *options)
    assert exit.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("network", "options", "said"), [
    ("mlp", ["--batch-size", "5000"], "at least one whole batch"),
    ("mlp", ["--batch-size", "1"], "more than one value per channel"),
    ("mlp", ["--batch-size", "4", "--accumulate", "4"], "more than one value per channel"),
    ("mlp", ["--held-out", "0.9"], "at least one whole batch"),
    ("mlp", ["--held-out", "0.999"], "some left to train on"),
    ("cnn", ["--batch-size", "5000", "--resume", "no-run"], "no config.json"),
    ("resnet", ["--norm", "none", "--zero-init-residual"], "zero_init_residual"),
    ("mlp", ["--compare", "batch-size=60,5000"], "at least one whole batch"),
    ("mlp", ["--compare", "none,batch", "--batch-size", "300"], "at least one whole batch"),
])
def test_what_cannot_be_trained_is_refused_before_a_directory_is_made(tmp_path, capsys, monkeypatch, network, options,
                                                                      said):
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(SystemExit):
        assert cli.main(["train", network, "--limit", "360", *options]) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("arguments", [[train_mlp.__file__], ["-m", "minigrad", "train", "mlp"],
                                       ["-m", "minigrad", "train", "mlp", "--compare", "lr=0.1,0.2"]])
def test_ctrl_c_is_one_line_that_says_how_to_go_on(tmp_path, arguments):
    process = subprocess.Popen([sys.executable, *arguments, "--epochs", "500", "--out", "run", "--workers", "2"],
                               cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not process.stdout.readline().startswith("batch  epoch"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.startswith("minigrad train: interrupted; go on with --resume run")
    assert error.count("\n") == 1


def test_a_data_set_that_is_missing_is_one_line(tmp_path, capsys):
    assert train(tmp_path / "run", "--dataset", "cifar10") == 1
    error = capsys.readouterr().err
    assert "minigrad data cifar10 FOLDER" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_event_files_hold_the_metrics(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    assert train(tmp_path / "run", "--tensorboard") == 0
    assert cli.main(["train", "mlp", "--resume", str(tmp_path / "run"), "--epochs", "3"]) == 0
    found = {}
    files = sorted((tmp_path / "run" / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for file in files:
        data = file.read_bytes()
        while data:  # length, its checksum, an event, its checksum
            length = int.from_bytes(data[:8], "little")
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            found.update({(value.tag, event.step): value.simple_value for value in event.summary.value
                          if not value.tag.endswith("/seconds")})
    with Run.open(tmp_path / "run") as run:
        rows = run.metrics()
    wanted = {(f"batch/{name}", row["step"]): np.float32(row[name]) for row in rows for name in ("loss", "accuracy")}
    assert len(files) == 2
    assert {key: np.float32(value) for key, value in found.items()} == wanted


def test_a_disk_too_full_for_event_files_is_one_error(tmp_path, capfd):
    pytest.importorskip("tensorboardX")
    with Run(tmp_path / "run", tensorboard=True) as run:
        run.log("a", 1, 1, loss=1.0)
        (file,) = (tmp_path / "run" / "tensorboard").iterdir()
        refused = pytest.raises(OSError, match=r"cannot write event files in .*tensorboard': File too large")
        with refused, files_end_at(file.stat().st_size):  # the metrics are shorter
            run.log("a", 2, 1, loss=1.0)
    assert [row["step"] for row in run.metrics()] == [1, 2]
    assert capfd.readouterr().err == ""


WATCHED = """
import os, sys
written = []
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink"}
def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, (str, bytes)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            written.append(os.fsdecode(path))
    elif event in CHANGES and isinstance(arguments[0], (str, bytes, os.PathLike)):
        written.append(os.fsdecode(arguments[0]))
    elif event.startswith("socket."):
        written.append(event)
from minigrad import cli
import minigrad.examples.train_mlp, minigrad.examples.train_cnn, minigrad.examples.train_resnet, minigrad.run.comparison
sys.addaudithook(hook)
status = cli.main(sys.argv[1:])
for path in written:
    print("WROTE", os.path.abspath(path) if not path.startswith("socket") else path)
sys.exit(status)
"""


@pytest.mark.parametrize("options", [[], ["--graph", "--watch", "2", "--ema", "0.9", "--workers", "2",
                                          "--patience", "1"]])
def test_trainers_write_nothing_outside_their_run_directory(tmp_path, options):
    """But for the caches of Python and numba, which have places of their own."""
    data = tmp_path / "data"
    data.mkdir()
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "MINIGRAD_DATA": str(data),
                                "MINIGRAD_KERNELS": "all" if options else "numpy",
                                "NUMBA_CACHE_DIR": str(tmp_path / "out" / "numba")}
    done = subprocess.run([sys.executable, "-c", WATCHED, "train", "mlp", "--limit", "150", "--epochs", "1", "--out",
                           "out/run", *options], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    written = [line.removeprefix("WROTE ") for line in done.stdout.splitlines() if line.startswith("WROTE ")]
    inside = str(tmp_path / "out")
    assert len(written) > 10
    assert [path for path in written if not (path + "/").startswith(inside + "/")] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]
    assert list(data.iterdir()) == []


def test_options_side_by_side(tmp_path, capsys):
    arguments = ["mlp", *SMALL, "--compare", "lr=0.1,1e38", "--compare", "norm=none,batch", "--out",
                 str(tmp_path / "all")]
    with pytest.warns(RuntimeWarning, match="the statistics of this batch are not finite"):
        assert cli.main(["train", *arguments]) == 0
    said = capsys.readouterr().out
    assert "lr=1e38,norm=none   diverged" in said
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "lr=0.1,norm=batch", "lr=0.1,norm=none", "lr=1e38,norm=batch", "lr=1e38,norm=none", "report.html"]
    page = (tmp_path / "all" / "report.html").read_text(encoding="utf-8")
    assert "Settings that differ" in page
    assert train(tmp_path / "alone", "--lr", "0.1") == 0
    assert metrics(tmp_path / "alone") == metrics(tmp_path / "all" / "lr=0.1,norm=batch")


@pytest.mark.parametrize(("arguments", "said"), [
    (["--compare", "lr=0.1"], "two or more"),
    (["--compare", "lr=0.1,0.1"], "two or more"),
    (["--compare", "colour=red,blue"], "unrecognized arguments: --colour"),
    (["--compare", "lr=0.1,x"], "'x' is not a number above 0"),
    (["--compare", "lr=0.1,1", "--compare", "lr=2,3"], "different options"),
    (["--compare", "out=a,b"], "different options"),
])
def test_a_comparison_that_makes_no_sense_is_refused_before_it_trains(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        cli.main(["train", "mlp", *arguments])
    assert exit.value.code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_switches_are_compared_by_yes_and_no():
    assert compare_options.combinations([("augment", ["no", "yes"]), ("lr", ["1", "2"])]) == [
        ("augment=no,lr=1", ["--lr", "1"]), ("augment=no,lr=2", ["--lr", "2"]),
        ("augment=yes,lr=1", ["--augment", "--lr", "1"]), ("augment=yes,lr=2", ["--augment", "--lr", "2"])]


# ------------------------------------------------------------------ the ResNet


def test_the_resnet_has_the_layers_that_its_depth_says():
    for depth in (8, 14, 20):
        model = train_resnet.ResNet((3, 32, 32), "batch", depth)
        weights = [p for name, p in model.named_parameters() if p.ndim > 1 and "shortcut" not in name]
        assert len(weights) == depth
        assert model(Tensor(np.zeros((2, 3, 32, 32), np.float32))).shape == (2, 10)
    # With shortcuts that only copy there are 269,722 (He et al., table 6: 0.27 million); two 1×1 convolutions with
    # their normalizations are added.
    assert sum(p.size for p in model.parameters()) == 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_zero_init_makes_every_block_the_identity(norm):
    model = train_resnet.ResNet((1, 8, 8), norm, 14, zero_init_residual=True)
    block = model.blocks[1]
    x = Tensor(np.abs(np.random.default_rng(0).standard_normal((4, 16, 8, 8))).astype(np.float32))
    np.testing.assert_array_equal(block(x).numpy(), x.numpy())
    with pytest.raises(ArgumentError, match="zero_init_residual"):
        train_resnet.ResNet((1, 8, 8), "none", zero_init_residual=True)


@pytest.mark.slow
def test_the_resnet_learns(tmp_path):
    data = FashionMNIST()
    even = [i for label in range(10) for i in np.flatnonzero(data.labels == label)[:20]]
    split = train_resnet.prepared(Split(Subset(data, even), Subset(data, even)), Settings())
    settings = Settings(lr=0.1, epochs=6, batch_size=20, seed=0)
    model = train_resnet.train(settings, split)
    assert _setup.accuracy(model, split.test) > 0.5


def test_it_takes_fashion_mnist_where_there_is_no_cifar(tmp_path, capsys):
    assert train(tmp_path / "run", "--limit", "32", "--batch-size", "32", "--epochs", "1", network="resnet") == 0
    assert "Fashion-MNIST" in capsys.readouterr().out
    assert read_config(tmp_path / "run")["dataset"] == "fashion-mnist"


def test_networks_take_colour_images():
    for build in (train_mlp.build, train_cnn.build):
        assert build("batch", 0, (3, 32, 32))(Tensor(np.zeros((2, 3, 32, 32), np.float32))).shape == (2, 10)


def test_parts_of_a_batch_add_up():
    images, labels = next(iter(DataLoader(Subset(FashionMNIST(), range(7)), 7)))
    found = list(_setup.parts(images, labels, 3))
    assert [len(x) for x, _, _ in found] == [3, 2, 2]
    assert sum(share for _, _, share in found) == pytest.approx(1)
    assert len(list(_setup.parts(images, labels, 20))) == 7
