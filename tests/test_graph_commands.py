"""The commands that draw graphs."""

import json

import pytest

from minigrad import cli, viz
from minigrad.examples import draw_graph
from minigrad.viz.layout import RenderError, engine


def can_draw():
    try:
        return bool(engine())
    except RenderError:
        return False


draws = pytest.mark.skipif(not can_draw(), reason="neither dot nor graphviz-pure is installed")


def test_text(capsys):
    assert cli.main(["graph", "mlp"]) == 0
    said = capsys.readouterr().out
    assert "BatchNorm1d" in said
    assert "∇" in said
    assert cli.main(["summary", "mlp", "--norm", "layer", "--input", "8,1,28,28"]) == 0
    said = capsys.readouterr().out
    assert "LayerNorm" in said
    assert "8×100" in said


@draws
@pytest.mark.parametrize("arguments", [
    ["mlp", "-o", "g.svg"], ["mlp", "--expand", "bn1", "--rank", "LR", "-o", "g.svg"],
    ["mlp", "--expand", "all", "-o", "g.png"], ["mlp", "--backward", "-o", "g.svg"],
    ["mlp", "--norm", "none", "--mode", "eval", "-o", "g.html"], ["mlp", "--depth", "0", "-o", "g.dot"],
    ["mlp", "--focus", "bn1", "--hide", "Sigmoid", "-o", "g.svg"], ["mlp", "-o", "g.json"], ["mlp", "-o", "g.txt"],
    ["cnn", "--input", "2,1,28,28", "-o", "g.svg"],
])
def test_files(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["graph", *arguments]) == 0
    assert (tmp_path / arguments[-1]).stat().st_size > 300
    assert capsys.readouterr().out == f"wrote {arguments[-1]}\n"


def test_a_script_a_dump_and_a_run(tmp_path, capsys):
    script = tmp_path / "net.py"
    script.write_text("import minigrad\nfrom minigrad import layers\ndef step():\n"
                      "    model = layers.Sequential(layers.Linear(2, 3), layers.BatchNorm1d(3))\n"
                      "    return model, (model(minigrad.randn(4, 2)) ** 2.0).sum()\n"
                      "def wrong():\n    return minigrad.ones(2, 3) @ minigrad.ones(2, 3)\n", encoding="utf-8")
    run = tmp_path / "run"
    run.mkdir()
    assert cli.main(["graph", f"{script}:step", "-o", str(run / "graph_train.json")]) == 0
    held = json.loads((run / "graph_train.json").read_text(encoding="utf-8"))
    assert "0.weight" in {t.get("name") for t in held["tensors"]}
    assert cli.main(["graph", f"{script}:step", "--norm", "none"]) == 2
    assert "--norm" in capsys.readouterr().err
    assert cli.main(["graph", str(run), "--backward"]) == 2
    assert "create_graph=True" in capsys.readouterr().err
    for what in (run, run / "graph_train.json"):
        assert cli.main(["summary", str(what)]) == 0
        assert "BatchNorm1d" in capsys.readouterr().out
    assert cli.main(["graph", f"{script}:wrong", "-o", str(tmp_path / "w.txt")]) == 1
    assert "stopped with ShapeError" in capsys.readouterr().err
    assert "MatMul" in (tmp_path / "w.txt").read_text(encoding="utf-8")


def test_a_program_that_stops_by_any_error_is_drawn_so_far(tmp_path, capsys):
    script = tmp_path / "net.py"
    script.write_text("import minigrad\ndef step():\n    return (minigrad.randn(2, 3) * 2.0) / {}['none']\n",
                      encoding="utf-8")
    assert cli.main(["graph", f"{script}:step"]) == 1
    told = capsys.readouterr()
    assert "Multiply" in told.out
    assert "stopped with KeyError" in told.err
    assert told.err.count("\n") == 1


def test_differences(tmp_path, capsys):
    assert cli.main(["graph", "diff", "mlp", "mlp:mode=eval", "--expand", "bn1"]) == 0
    assert "− Variance of BatchNorm1d 2: only in A" in capsys.readouterr().out
    assert cli.main(["graph", "diff", "mlp:norm=none", "mlp", "-o", str(tmp_path / "d.txt")]) == 0
    assert "+ BatchNorm1d 2: only in B" in capsys.readouterr().out
    assert cli.main(["graph", "diff", "mlp:mode=train", "mlp:mode=eval"]) == 0
    assert "BatchNorm → BatchNormInference" in capsys.readouterr().out
    assert cli.main(["graph", "diff", "mlp:mode=eval", "mlp:fold=yes"]) == 0
    said = capsys.readouterr().out
    assert "− BatchNorm1d 2: only in A" in said
    assert "≠ Linear 1: weight 100×784 → weight 100×784 · bias 100" in said


@pytest.mark.parametrize(("arguments", "said"), [
    (["graph", "rnn"], "got 'rnn'"),
    (["graph", "mlp:norm=odd"], "norm=odd"),
    (["graph", "mlp", "--expand", "bn9", "-o", "x.svg"], "got 'bn9'"),
    (["graph", "mlp", "-o", "x.bmp"], ".svg"),
    (["graph", "mlp:fold=maybe"], "fold=(no|yes)"),
    (["graph", "."], "graph_train.json"),
    (["graph", ".", "--mode", "eval"], "graph_eval.json"),
    (["graph", ".", "--norm", "layer"], "--norm"),
])
def test_wrong_words_are_answered_in_one_line(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_wrong_usage_exits_with_2(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["graph", "mlp", "--input", "a,b"])
    assert left.value.code == 2


@draws
def test_the_example(tmp_path, capsys):
    draw_graph.main(["--tiny", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "through Variance" in said
    assert {"batchnorm.svg", "graph.html", "difference.svg"} == {p.name for p in tmp_path.iterdir()}


def test_a_trainer_writes_its_graph_and_what_it_watched(tmp_path, capsys):
    assert cli.main(["train", "mlp", "--tiny", "--graph", "--watch", "2", "--out", str(tmp_path / "run")]) == 0
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"graph_train.json", "graph_eval.json", "watch.npz", "report.html"} <= names
    graph = viz.Graph.load(tmp_path / "run" / "graph_train.json")
    assert graph.find("BatchNorm")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "85th percentile" in page
    if can_draw():
        assert "The graph of one training step" in page
        assert "graph.html" in names
