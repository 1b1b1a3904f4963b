"""Reports on runs: what they say is what the runs hold; ten of them open in a browser without a complaint."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from minigrad import cli
from minigrad.errors import ArgumentError, StateError
from minigrad.run import Run
from minigrad.run.comparison import report_on, results_of

# A page as the drawing of graphs makes them: its own style, script and policy.
GRAPH = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Graph</title><style>svg { background: rgb(1, 2, 3); width: 200px }</style></head>
<body><svg viewBox="0 0 9 9" id="graph"><circle r="3" cx="4" cy="4" fill="tan"/></svg><p id="said"></p>
<script>document.getElementById("said").textContent = "drawn " + (1 + 1);</script></body></html>
"""


def make(directory, seed, *, norm="batch", lr=0.1, status="done", steps=40, graph=False, watch=False):
    rng = np.random.default_rng(seed)
    config = {"trainer": "mlp", "norm": norm, "lr": lr, "seed": seed, "ema": None, "optimizer": {"momentum": 0.9}}
    with Run(directory, config) as run:
        for step in range(1, steps + 1):
            loss = 2.3 * np.exp(-step / 15) + rng.random() / 10
            run.log(norm, step * 10, step // 10 + 1, loss=loss, accuracy=0.9 - 0.8 * np.exp(-step * lr / 2))
            run.log_timing(norm, step * 10, step // 10 + 1, seconds=step / 3)
        if status == "diverged":
            run.log(norm, steps * 10 + 10, 9, loss=float("nan"), accuracy=0.1)
        if status:
            run.finish(status, test_accuracy=0.8, **({"message": "step 7: <b>bad</b>"} if status == "diverged" else {}))
    if graph:
        (directory / "graph.html").write_text(GRAPH, encoding="utf-8")
    if watch:
        np.savez(directory / "watch.npz", **{"step": np.arange(5), "0.weight/update": np.arange(1.0, 6),
                                             "0.weight/gradient": np.arange(1.0, 6),
                                             "1/running mean off by": np.ones(5)})
    return directory


@pytest.fixture
def ten(tmp_path):
    runs = [make(tmp_path / f"run-{i}", i, norm=["none", "batch"][i % 2], lr=0.1 * (1 + i // 2), graph=i < 2,
                 watch=i == 3, status=["done", "stopped early", "diverged", ""][i % 4]) for i in range(9)]
    return [*runs, make(tmp_path / "<img src=x onerror=alert(1)> größe", 9)]


def test_a_report_says_what_the_runs_hold(ten, tmp_path):
    page = report_on(ten, tmp_path / "report.html").read_text(encoding="utf-8")
    for name in ("run-0", "run-8", "diverged", "not finished", "stopped early", "norm", "lr"):
        assert name in page
    assert "<img" not in page
    assert "&lt;b&gt;bad" in page
    differing = page[page.index("Settings that differ") :]
    heads = re.findall(r'<th scope="col">([^<]*)</th>', differing[: differing.index("</table>")])
    assert heads == ["run", "norm", "lr", "seed"]
    assert page.count("<iframe") == 2
    assert "Size of updates, run-3" in page
    assert "Running means against the batch" in page


def test_the_table_is_right(tmp_path):
    one = make(tmp_path / "a" / "run", 0, steps=4)
    two = make(tmp_path / "b" / "run", 1, steps=3, status="")
    table = results_of([one, two])
    assert [row[:4] for row in table.rows] == [("a/run", "done", 1, 40), ("b/run", "not finished", 1, 30)]
    accuracy = f"{90 - 80 * np.exp(-0.2):.1f} %"
    assert table.rows[0][4:8] == (accuracy, 40, accuracy, "80.0 %")


def test_one_run_alone_and_a_run_without_metrics(tmp_path):
    run = make(tmp_path / "run", 0)
    page = report_on([run], run / "report.html").read_text(encoding="utf-8")
    assert "Settings that differ" not in page
    assert "optimizer.momentum" in page
    with Run(tmp_path / "empty", {"lr": 1}):
        pass
    page = report_on([tmp_path / "empty"], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "No accuracy was measured" in page


def test_a_comparison_in_one_run_keeps_its_series_apart(tmp_path):
    with Run(tmp_path / "run") as run:
        for series in ("none", "batch"):
            run.log(series, 1, 1, loss=1.0, accuracy=0.5)
    assert [row[0] for row in results_of([run.directory]).rows] == ["run: none", "run: batch"]


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="no run"):
        report_on([], tmp_path / "r.html")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        report_on([tmp_path], tmp_path / "r.html")
    run = make(tmp_path / "run", 0)
    (run / "watch.npz").write_text("x\n")
    (run / "environment.json").unlink()
    page = report_on([run], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "watch.npz is left out" in page
    assert "environment.json is missing" in page
    (run / "metrics.jsonl").write_text("x\n")
    with pytest.raises(StateError, match="line 1"):
        report_on([run], tmp_path / "r.html")


def test_the_command(ten, tmp_path, capsys):
    assert cli.main(["report", *map(str, ten[:3])]) == 0
    said = capsys.readouterr().out
    assert f"report: {tmp_path / 'report.html'}" in said
    assert "run-2  diverged" in said
    assert cli.main(["report", str(ten[0]), "--title", "Mine"]) == 0
    assert "<h1>Mine</h1>" in (ten[0] / "report.html").read_text(encoding="utf-8")
    for wrong in (tmp_path / "nothing", ten[0] / "report.html"):
        with pytest.raises(SystemExit) as exit:
            cli.main(["report", str(wrong)])
        assert exit.value.code == 2
    assert cli.main(["report", str(ten[0]), "--out", str(tmp_path / "no" / "r.html")]) == 1


def test_a_folder_of_runs_and_what_else_a_star_finds(tmp_path, capsys):
    for name in ("single", "compared/lr=1", "compared/lr=2"):
        make(tmp_path / name, 0)
    paths = sorted(map(str, tmp_path.iterdir()))
    assert cli.main(["report", *paths]) == 0
    assert cli.main(["report", *paths, str(tmp_path / "report.html")]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[2:5]] == ["lr=1", "lr=2", "single"]
    assert said.count(f"report: {tmp_path / 'report.html'}") == 2
    assert not (tmp_path / "compared" / "report.html").exists()
    assert cli.main(["report", str(tmp_path / "compared")]) == 0
    assert f"report: {tmp_path / 'compared' / 'report.html'}" in capsys.readouterr().out


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
         "--virtual-time-budget=4000"]


def opened(page, tmp_path):
    """Open a page; returns its elements, the browser's complaints, and what the page asked the network for."""
    log = tmp_path / "net.json"
    done = subprocess.run([CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}",
                           "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    asked = set()
    for event in json.loads(log.read_text(encoding="utf-8"))["events"]:
        said = event.get("params", {})
        # What the browser asks for by itself, such as news of updates, has no origin.
        if str(said.get("url", "")).startswith("http") and said.get("initiator", "not an origin") != "not an origin":
            asked.add(said["url"])
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], asked


def with_frames_open(page):
    """As if somebody had opened all frames."""
    text = page.read_text(encoding="utf-8").replace('<details class="embed">', '<details class="embed" open>')
    page.write_text(text.replace(' loading="lazy"', ""), encoding="utf-8")
    return page


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_ten_runs_open_in_a_browser_without_errors_or_requests(ten, tmp_path):
    elements, complaints, asked = opened(with_frames_open(report_on(ten, tmp_path / "report.html")), tmp_path)
    assert complaints == []
    assert '<button type="button">' in elements, "the page's script has not run: it shows the button"
    assert elements.count("<svg") >= 8
    assert asked == set()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.filterwarnings("default")  # those of the browser's driver are not ours
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_trained_runs_with_their_graphs_can_be_looked_through(tmp_path, scheme):
    """What the trainers write; the pages of graphs are opened, closed, and looked at in a narrow window."""
    playwright = pytest.importorskip("playwright.sync_api")
    for lr in ("0.1", "0.3"):
        assert cli.main(["train", "mlp", "--limit", "120", "--epochs", "1", "--every", "1", "--lr", lr, "--graph",
                         "--watch", "1", "--out", str(tmp_path / "runs" / lr)]) == 0
    if not (tmp_path / "runs" / "0.1" / "graph.html").exists():
        pytest.skip("neither dot nor graphviz-pure is installed")
    assert cli.main(["report", str(tmp_path / "runs")]) == 0
    heard, asked = [], []
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768}, color_scheme=scheme)
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "runs" / "report.html").as_uri())
        for width in (1366, 400):
            page.set_viewport_size({"width": width, "height": 768})
            for summary in page.locator(".embed summary").all():
                summary.click()
            for frame in page.frames[1:]:
                frame.locator(".node").first.wait_for(state="visible")
                box = [float(number) for number in frame.locator("#graph").get_attribute("viewBox").split()]
                assert min(box[2:]) > 50
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for summary in page.locator(".embed summary").all():
                summary.click()
        assert len(page.frames) == 3
        browser.close()
    assert heard == []
    assert [url for url in asked if not url.startswith(("file:", "about:srcdoc"))] == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_request_or_an_error_would_be_noticed(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<img src='http://127.0.0.1:9/y'><script>console.error('x')</script>", encoding="utf-8")
    _, complaints, asked = opened(page, tmp_path)
    assert complaints
    assert asked == {"http://127.0.0.1:9/y"}


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_hostile_graph_cannot_ask_the_network(tmp_path):
    hostile = GRAPH.replace("</body>", "<script>fetch('http://127.0.0.1:9/x').catch(() => 0)</script>"
                                       "<img src='http://127.0.0.1:9/y'></body>")
    run = make(tmp_path / "run", 0)
    (run / "graph.html").write_text(hostile, encoding="utf-8")
    _, complaints, asked = opened(with_frames_open(report_on([run], tmp_path / "report.html")), tmp_path)
    assert any("Content Security Policy" in line for line in complaints)
    assert asked == set()
