"""DOT, SVG, PNG, text: right, safe with any name, and clear where nothing can draw."""

import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from networks import Net, batch, recorded

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, viz
from minigrad.errors import ArgumentError
from minigrad.viz import layout, scene
from minigrad.viz.style import DARK, KINDS, LIGHT

HOSTILE = ['<b>&"\'</b>', "</script><script>document.title='run'</script>", "@@DATA@@", "名前 γ→β",
           "a\nb\u202e\x1b[31m", "${x} \\N \\l", "]]>", "<TABLE>"]
SPACE = "{http" + "://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def graph():
    return recorded()[1].graph


def has(*names):
    try:
        layout.engine()
    except layout.RenderError:
        return False
    return True


draws = pytest.mark.skipif(not has(), reason="neither dot nor graphviz-pure is installed")


@pytest.fixture(scope="module")
def hostile():
    class Odd(layers.Module):
        def forward(self, x):
            for child in self.children():
                x = child(x)
            return x

    model = Odd()
    for k, name in enumerate(HOSTILE):
        model.add_module(name.replace(".", ""), layers.Linear(3, 3) if k % 2 else layers.BatchNorm1d(3))
    x = Tensor(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32), name=HOSTILE[0])
    with viz.record(model, title="".join(HOSTILE)) as rec:
        model(x).sum().backward()
    return rec.graph


def test_dot_is_the_same_every_time_and_balanced(graph):
    text = graph.dot(opened=["bn1"])
    assert text == graph.dot(opened=["bn1"])
    assert text.count("{") == text.count("}")
    assert "BatchNorm1d" in text
    assert "∇" in text
    assert graph.dot(rank="LR").count("rankdir=LR") == 1


@draws
def test_every_node_edge_and_frame_is_in_the_svg(graph):
    view = graph.view(opened=["bn1"])
    root = ET.fromstring(graph.svg(opened=["bn1"]))
    groups = [g.get("class", "").split() for g in root.iter(SPACE + "g")]
    assert sum("node" in g for g in groups) == len(view.nodes)
    assert sum("edge" in g for g in groups) == len(view.edges)
    assert sum("cluster" in g for g in groups) == len(view.clusters)
    texts = [t.text for t in root.iter(SPACE + "text")]
    assert {"Mean", "Variance", "Rsqrt", "Normalize", "ScaleShift", "EMA update", "running_mean", "loss"} <= set(texts)
    assert root.find(SPACE + "title").text == "Net"


def boxes(view, opened=()):
    geometry = layout.lay_out(viz.graph.dot_text(view, words=False))
    from minigrad.viz.labels import node_size

    return [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for node, (x, y) in zip(view.nodes, geometry.nodes)
            for w, h in [node_size(node)]], geometry


@draws
@pytest.mark.parametrize("opened", [[], ["bn1"], ["all"]])
def test_nodes_do_not_overlap_and_the_main_path_is_straight(graph, opened):
    view = graph.view(opened=opened)
    places, geometry = boxes(view)
    for i, a in enumerate(places):
        for b in places[i + 1:]:
            assert a[2] <= b[0] + 0.5 or b[2] <= a[0] + 0.5 or a[3] <= b[1] + 0.5 or b[3] <= a[1] + 0.5
    at = {node.key: place for node, place in zip(view.nodes, geometry.nodes)}
    spine = [edge for edge in view.edges if edge.spine]
    if opened != ["all"]:
        assert all(abs(at[e.source][0] - at[e.target][0]) < 1 for e in spine)
    assert all(at[e.source][1] < at[e.target][1] for e in view.edges)
    assert geometry.width < 1366


@draws
def test_both_themes_and_no_theme(graph):
    assert "prefers-color-scheme" in graph.svg()
    assert DARK["page"] in graph.svg(theme="dark")
    assert LIGHT["page"] not in graph.svg(theme="dark")
    assert graph.png()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(graph.png(opened=["bn1"])) > len(graph.png())


def luminance(colour):
    parts = [int(colour[k:k + 2], 16) / 255 for k in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(palette):
    for kind in KINDS:
        fill = palette[f"{kind}-fill"]
        assert contrast(palette["text"], fill) >= 7
        assert contrast(palette["soft"], fill) >= 4.5, kind
        assert contrast(palette["green"], fill) >= 4.5, kind
        assert contrast(palette[f"{kind}-line"], palette["page"]) >= 3, kind
    for name in ("soft", "grad", "edge", "warn", "added", "removed", "changed"):
        assert contrast(palette[name], palette["page"]) >= 4.5, name
    assert contrast(palette["faint"], palette["page"]) >= 3


@draws
def test_hostile_names_are_text_everywhere(hostile, tmp_path):
    svg = hostile.svg(opened=["all"])
    root = ET.fromstring(svg)
    assert not [e for e in root.iter() if e.tag.endswith(("script", "foreignObject", "b"))]
    words = " ".join("".join(t.itertext()) for t in root.iter(SPACE + "text"))
    assert '<b>&"\'</b>' in words
    assert "名前 γ→β" in words
    page = hostile.html(pictures=3)
    assert page.count("<script") == 2
    assert "\x1b" not in page + svg + hostile.summary() + hostile.listing()
    assert "\u202e" not in page + svg + hostile.summary() + hostile.listing()
    hostile.save(tmp_path / "g.png")
    held = viz.Graph.from_dict(hostile.to_dict())
    assert held.to_json() == hostile.to_json()
    assert not re.search(r'label="[^"]*<b>', hostile.dot())


def test_text_needs_nothing(graph, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "BatchNorm1d" in graph.summary()
    assert "∇" in graph.listing()
    assert graph.dot().startswith("digraph")
    with pytest.raises(viz.RenderError) as told:
        graph.svg()
    for fix in ("minigrad-norm[viz]", "apt install graphviz", "brew install graphviz", ".dot, .json or .txt"):
        assert fix in str(told.value)
    assert set(graph._repr_mimebundle_()) == {"text/plain"}
    assert set(viz.diff(graph, graph)._repr_mimebundle_()) == {"text/plain"}
    with pytest.raises(viz.RenderError):
        graph.html()


def test_pdf_needs_dot(graph, monkeypatch, tmp_path):
    if shutil.which("dot"):
        assert graph.pdf()[:5] == b"%PDF-"
    pure = tmp_path / "bin" / "graphviz-pure"
    pure.parent.mkdir()
    pure.write_text("")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(pure.parent / "python"))
    with pytest.raises(viz.RenderError, match="writes no PDF"):
        graph.pdf()


def test_a_renderer_that_fails_or_hangs_is_named(graph, monkeypatch):
    monkeypatch.setattr(layout, "engine", lambda kind="json": [sys.executable, "-c", "import sys; sys.exit('broken')"])
    with pytest.raises(viz.RenderError, match="broken"):
        graph.svg()

    def slow(*args, **kwargs):
        raise subprocess.TimeoutExpired(args[0], 60)

    monkeypatch.setattr(subprocess, "run", slow)
    with pytest.raises(viz.RenderError, match="longer than 60 s"):
        graph.svg()
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(OSError("no such file")))
    with pytest.raises(viz.RenderError, match="cannot be run"):
        graph.svg()


@draws
def test_a_layout_that_fails_is_tried_without_ranks_across_frames(graph, monkeypatch, tmp_path):
    """Graphviz stops at some pictures with frames inside frames ("trouble in init_rank") unless newrank is off."""
    real = layout.engine()
    refuses = tmp_path / "refuses.py"
    refuses.write_text("import subprocess, sys\ntext = sys.stdin.read()\n"
                       "if 'newrank=true' in text: sys.exit('Error: trouble in init_rank')\n"
                       f"sys.exit(subprocess.run([*{real!r}, *sys.argv[1:]], input=text.encode()).returncode)\n",
                       encoding="utf-8")
    monkeypatch.setattr(layout, "engine", lambda kind="json": [sys.executable, str(refuses)])
    root = ET.fromstring(graph.svg(opened=["bn1"]))
    assert sum("node" in g.get("class", "").split() for g in root.iter(SPACE + "g")) == len(
        graph.view(opened=["bn1"]).nodes)


def test_files_by_their_ending(graph, tmp_path):
    for ending in ("json", "dot", "txt"):
        assert graph.save(tmp_path / f"g.{ending}").stat().st_size > 100
    assert viz.Graph.load(tmp_path / "g.json").to_json() == graph.to_json()
    with pytest.raises(ArgumentError, match=r"\.svg"):
        graph.save(tmp_path / "g.bmp")
    with pytest.raises(ArgumentError, match="rank"):
        graph.dot(rank="BT")


def test_the_summary_tells_layers_bytes_and_times(graph):
    text = graph.summary()
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert lines["fc1"][1:4] == ["Linear", "6×7", "42"]
    assert lines["bn1"][1:5] == ["BatchNorm1d", "6×7", "14", "14"]
    assert lines["total"][1:3] == ["80", "14"]
    assert "held for backward" in text


def test_graphviz_source(graph):
    graphviz = pytest.importorskip("graphviz")
    assert isinstance(graph.graphviz(), graphviz.Source)


def test_without_the_graphviz_package_the_error_names_the_fixes(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(viz.RenderError, match=r"minigrad-norm\[viz\].*Graph\.dot"):
        graph.graphviz()


@draws
def test_jupyter_shows_a_picture_or_text(graph):
    bundle = graph._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<svg")
    assert "bn1" in bundle["text/plain"]
    assert repr(graph).startswith("<Graph 'Net': 5 operations")


# ------------------------------------------------------------------ differences


def of(model, title):
    x, target = batch()
    with viz.record(model, title=title) as rec:
        F.cross_entropy(model(x), target).backward()
    return rec.graph


class Without(Net):
    """Net without its BatchNorm."""

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


def test_with_against_without_batchnorm():
    found = viz.diff(of(Without(), "without"), of(Net(), "with"))
    assert found.lines == ["+ BatchNorm1d bn1: only in B"]
    states = {node.title: node.status for node in found.view.nodes}
    assert states == {"Linear": "", "BatchNorm1d": "added", "ReLU": "", "CrossEntropy": "", "x": "", "target": "",
                      "loss": ""}
    edges = sorted(e.status for e in found.view.edges)
    assert edges == ["", "", "", "", "", "added", "added", "removed"]
    assert "operations: 4 → 5" in found.text()
    assert viz.diff(of(Net(), "with"), of(Without(), "without")).lines == ["− BatchNorm1d bn1: only in A"]


def test_training_against_evaluation():
    found = viz.diff(of(Net(), "training"), of(Net().eval(), "evaluation"))
    assert "≠ BatchNorm1d bn1: BatchNorm → BatchNormInference" in found.lines
    assert "≠ BatchNorm1d bn1: updates running_mean, running_var → nothing" in found.lines
    assert {node.title for node in found.view.nodes if node.status == "changed"} == {"BatchNorm1d"}
    assert not found.same


def test_differences_inside_an_opened_batchnorm():
    """In evaluation there are no ways through mean and variance, and nothing updates the running statistics."""
    training, evaluation = of(Net(), "training"), of(Net().eval(), "evaluation")
    found = viz.diff(training, evaluation, opened=["bn1"])
    assert {"− Mean of BatchNorm1d bn1: only in A", "− Variance of BatchNorm1d bn1: only in A"} <= set(found.lines)
    gone = {node.title: node.cluster for node in found.view.nodes if node.status == "removed"}
    assert gone == dict.fromkeys(["Mean", "Variance"], evaluation.find("bn1")[0].id)
    kept = {node.title: node.status for node in found.view.nodes}
    assert kept["Normalize"] == kept["ScaleShift"] == ""
    # A name that only one graph has counts for that one; one that neither has is refused.
    added = viz.diff(of(Without(), "without"), training, opened=["bn1"]).lines
    assert [line.split()[1] for line in added] == ["Mean", "Variance", "Rsqrt", "Normalize", "ScaleShift"]
    with pytest.raises(ArgumentError, match="bn9"):
        viz.diff(training, evaluation, opened=["bn9"])


def test_before_against_after_folding():
    """Of the same numbers: a BatchNorm less, a bias more, and the same loss."""
    minigrad.manual_seed(0)
    model = layers.Sequential(layers.Linear(5, 7, bias=False), layers.BatchNorm1d(7), layers.ReLU(),
                              layers.Linear(7, 3)).to("float64")
    model(Tensor(batch()[0].numpy()))  # so that there are statistics to fold
    before, after = of(model.eval(), "before"), of(layers.fold(model), "after")
    found = viz.diff(before, after)
    assert found.lines == ["≠ Linear 0: weight 7×5 → weight 7×5 · bias 7", "− BatchNorm1d 1: only in A"]
    assert "operations: 5 → 4" in found.text()
    losses = [next(t.value for t in g.tensors if t.id == g.top_level()[-1].outputs[0]) for g in (before, after)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_no_difference():
    found = viz.diff(of(Net(), "a"), of(Net(), "b"))
    assert found.same
    assert "no difference" in found.text()
    assert not any(thing.status for thing in (*found.view.nodes, *found.view.edges))


@draws
def test_differences_are_drawn(tmp_path):
    found = viz.diff(of(Without(), "without <b>"), of(Net(), "with"))
    for ending in ("svg", "png", "dot", "html", "txt"):
        assert found.save(tmp_path / f"d.{ending}").stat().st_size > 100
    assert "only in B" in (tmp_path / "d.svg").read_text(encoding="utf-8")
    with pytest.raises(ArgumentError):
        found.save(tmp_path / "d.bmp")
    assert isinstance(found.view, scene.View)
