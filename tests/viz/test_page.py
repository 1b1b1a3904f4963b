"""The HTML page, driven in a browser: no error, no request, and everything by mouse and by keyboard."""

import json
import re
import shutil

import numpy as np
import pytest
from networks import Net, recorded

from minigrad import Tensor, layers, viz
from minigrad.viz import layout

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-default-apps", "--no-first-run", "--no-default-browser-check", "--disable-domain-reliability"]


def can_draw():
    try:
        return bool(layout.engine())
    except layout.RenderError:
        return False


pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not can_draw(), reason="neither dot nor graphviz-pure is installed"),
    pytest.mark.filterwarnings("default"),  # those of the browser's driver are not ours
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        found = p.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def graph():
    return recorded()[1].graph


@pytest.fixture(scope="module")
def file(graph, tmp_path_factory):
    return graph.save(tmp_path_factory.mktemp("page") / "g.html")


@pytest.fixture
def open_page(browser):
    """A page for a file; at the end nothing may have gone wrong or been asked for."""
    heard, asked = [], []
    pages = []

    def opened(path, **options):
        page = browser.new_page(viewport={"width": 1366, "height": 768}, **options)
        pages.append(page)
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.set_default_timeout(10_000)
        page.goto(path.as_uri())
        return page

    yield opened
    for page in pages:
        page.close()
    assert heard == []
    assert [url for url in asked if not url.startswith("file:")] == []
    assert len(asked) == len(pages)


def labels(page):
    return page.eval_on_selector_all(".node", "all => all.map(n => n.getAttribute('aria-label').split(',')[0])")


def test_it_loads_and_asks_for_nothing(open_page, file):
    page = open_page(file)
    assert labels(page) == ["Linear fc1", "BatchNorm1d bn1", "ReLU act", "Linear fc2", "CrossEntropy", "x", "target",
                            "loss"]
    policy = page.get_attribute("meta[http-equiv]", "content")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = file.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="', text)


def test_a_request_from_the_page_is_refused(browser, file):
    page = browser.new_page()
    page.goto(file.as_uri())
    refused = page.evaluate("fetch('data:text/plain,x').then(() => 'went', error => String(error))")
    assert "went" not in refused
    page.close()


def test_opening_batchnorm_and_closing_it(open_page, file):
    page = open_page(file)
    page.dblclick(".node[aria-label^='BatchNorm1d bn1']")
    assert {"Mean", "Variance", "Rsqrt", "Normalize", "ScaleShift", "EMA update", "running_mean"} <= set(labels(page))
    assert page.inner_text("#status") == "Opened."
    assert page.locator("#open").count() == 0  # of the node that is open now
    page.click(".cluster .toggle")
    assert "BatchNorm1d bn1" in labels(page)
    assert page.inner_text("#status") == "Closed."
    page.click(".node[aria-label^='CrossEntropy'] .toggle")
    assert "LogSoftmax" in " ".join(labels(page))


def test_clicking_shows_values_gradients_and_bytes(open_page, file, graph):
    page = open_page(file)
    page.click(".node[aria-label^='BatchNorm1d bn1']")
    panel = page.inner_text("#details")
    norm = graph.find("bn1")[0]
    gradient = next(u.grad.norm for u in graph.uses_by_op[norm.id] if u.arg == 0)
    assert f"∇ {gradient:.3f}"[:6] in panel
    assert "keeps for backward" in panel
    for kind in ("values", "gradient"):  # of y, the mean, the variance and 1/σ
        assert page.locator(f"#details .hist.{kind} rect").count() == 4 * 24
    page.evaluate("document.querySelectorAll('.edge .wide')[1].dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert "turn in backward" in page.inner_text("#details")


def test_focus_and_what_is_hidden_count_in_every_state(open_page, graph, tmp_path):
    page = open_page(graph.save(tmp_path / "g.html", focus="bn1", radius=1, hide=["ReLU"]))
    assert labels(page) == ["Linear fc1", "BatchNorm1d bn1", "Linear fc2"]
    page.dblclick(".node[aria-label^='BatchNorm1d bn1']")
    assert {"Linear fc1", "Mean", "ScaleShift", "Linear fc2"} <= set(labels(page))
    assert not {"ReLU act", "CrossEntropy", "loss"} & set(labels(page))


def test_search_finds(open_page, file):
    page = open_page(file)
    page.keyboard.press("/")
    page.keyboard.type("batchnorm")
    assert page.locator(".node.hit").count() == 1
    assert page.inner_text("#status").startswith("1 found")
    page.keyboard.press("Enter")
    assert "BatchNorm1d bn1" in page.inner_text("#status")
    assert "BatchNorm1d" in page.inner_text("#details h2 >> nth=0")
    page.fill("#search", "nothing of this name")
    assert page.inner_text("#status") == "Nothing found."
    page.keyboard.press("Escape")
    assert page.locator(".node.missed").count() == 0


@pytest.mark.parametrize("opened", [False, True], ids=["closed", "opened"])
def test_stepping_visits_every_edge_in_the_order_of_the_engine(open_page, file, graph, opened):
    page = open_page(file)
    view = graph.view(opened=["bn1"] if opened else [])
    if opened:
        page.dblclick(".node[aria-label^='BatchNorm1d bn1']")
    named = {node.key: node.title for node in view.nodes}
    wanted = [f"{named[e.target]} sends ∇ {e.gradient:.2g}"[:len(named[e.target]) + 9] + f"|{named[e.source]}"
              for e in sorted((e for e in view.edges if e.order), key=lambda e: e.order)]
    assert page.evaluate("minigradGraph.turns") == len(wanted)
    seen = []
    for k in range(len(wanted)):
        page.keyboard.press("n") if k % 2 else page.click("#step")
        said = page.inner_text("#status")
        assert said.startswith(f"Step {k + 1} of {len(wanted)}: ")
        body, _, target = said.partition(": ")[2].rpartition(" to ")
        seen.append(f"{body[:len(body.split(' sends')[0]) + 9]}|{target}")
        assert page.locator(".edge.now").count() == 1
        assert page.locator(".edge.done").count() == k
    assert seen == wanted
    page.keyboard.press("p")
    assert page.evaluate("minigradGraph.step") == len(wanted) - 1
    page.keyboard.press("Escape")
    assert page.locator("#graph.stepping").count() == 0


def test_the_keyboard_reaches_everything(open_page, file):
    page = open_page(file)
    page.focus(".node[tabindex='0']")
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowDown")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert (first.split(",")[0], second.split(",")[0]) == ("Linear fc1", "BatchNorm1d bn1")
    assert page.get_attribute(".node[aria-label^='BatchNorm1d bn1']", "aria-expanded") == "false"
    page.keyboard.press("Enter")
    assert "Normalize" in labels(page)
    held = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert held.split(",")[0] in ("Mean", "Variance")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") != held
    page.focus(".cluster .toggle")
    page.keyboard.press("Enter")
    assert "Normalize" not in labels(page)
    before = page.get_attribute("#graph", "viewBox")
    page.keyboard.press("+")
    assert page.get_attribute("#graph", "viewBox") != before
    unnamed = page.evaluate("[...document.querySelectorAll('button, input, [role=button]')].filter("
                            "e => !(e.textContent.trim() || e.getAttribute('aria-label'))).length")
    assert unnamed == 0
    assert page.get_attribute("#status", "aria-live") == "polite"


def test_zooming_and_moving(open_page, file):
    page = open_page(file)
    _, _, w0, _ = map(float, page.get_attribute("#graph", "viewBox").split())
    box = page.locator("#graph").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.wheel(0, -300)
    w1 = float(page.get_attribute("#graph", "viewBox").split()[2])
    assert w1 < w0
    before = page.get_attribute("#graph", "viewBox")
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 90, steps=4)
    page.mouse.up()
    assert page.get_attribute("#graph", "viewBox") != before
    page.click("#fit")
    held = [float(v) for v in page.get_attribute("#graph", "viewBox").split()]
    assert held[3] >= page.evaluate("JSON.parse(document.getElementById('data').textContent).states[0].h")


CONTRAST = r"""() => {
  const light = c => { const [r, g, b] = c.match(/[\d.]+/g).map(v => v / 255).map(
    v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const found = [];
  const page = getComputedStyle(document.body).backgroundColor;
  // A colour laid over another, as opaque as `part` and all around it.
  const laid = (c, part, under) => { const [a, b] = [c, under].map(v => v.match(/[\d.]+/g).map(Number));
    return `rgb(${[0, 1, 2].map(k => a[k] * part + b[k] * (1 - part))})`; };
  const opacity = e => {
    let all = 1;
    for (; e && e.id !== "graph"; e = e.parentElement) all *= getComputedStyle(e).opacity;
    return all;
  };
  for (const node of document.querySelectorAll("#graph .node")) {
    const body = node.querySelector(".body"), fill = laid(getComputedStyle(body).fill, opacity(body), page);
    for (const text of node.querySelectorAll("text, tspan"))
      found.push([ratio(laid(getComputedStyle(text).fill, opacity(text), fill), fill), text.textContent]);
  }
  for (const text of document.querySelectorAll("#graph .label text"))
    found.push([ratio(laid(getComputedStyle(text).fill, opacity(text), page), page), text.textContent]);
  for (const e of document.querySelectorAll("h1, p, button:not(:disabled), summary, .legend span, th, td, input")) {
    if (!e.textContent.trim()) continue;
    let behind = e;
    while (behind && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    found.push([ratio(getComputedStyle(e).color, getComputedStyle(behind).backgroundColor), e.textContent]);
  }
  return found.filter(([r]) => r < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_at_least_4_5(open_page, file, scheme):
    page = open_page(file, color_scheme=scheme)
    page.dblclick(".node[aria-label^='BatchNorm1d bn1']")
    page.click("#fit")
    page.click(".node[aria-label^='Linear fc1']")
    assert page.evaluate(CONTRAST) == []
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.evaluate(CONTRAST) == []
    for _ in range(6):
        page.click("#step")
    assert page.evaluate(CONTRAST) == []
    page.click("#reset")
    page.fill("#search", "linear")
    assert page.locator(".node.missed").count() > 0
    assert page.evaluate(CONTRAST) == []


def test_a_hostile_name_runs_no_script(open_page, tmp_path):
    evil = "</script><img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
    model = layers.Sequential()
    model.add_module(evil.replace(".", ""), layers.BatchNorm1d(3))
    x = Tensor(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32), name=evil)
    with viz.record(model, title=evil) as rec:
        model(x).sum().backward()
    page = open_page(rec.graph.save(tmp_path / "evil.html"))
    for node in page.query_selector_all(".node"):
        node.click()
    page.fill("#search", "<img")
    assert page.title() == evil
    assert page.evaluate("document.images.length") == 0
    assert page.evaluate("document.title") == evil


def test_a_partial_graph_says_what_stopped_it(open_page, tmp_path):
    model = layers.Sequential(layers.Linear(5, 4), layers.Linear(3, 2))
    rec = viz.record(model)
    with pytest.raises(ValueError, match="linear"), rec:
        model(Tensor(np.ones((2, 5), np.float32)))
    page = open_page(rec.graph.save(tmp_path / "failed.html"))
    assert "ShapeError" in page.inner_text("#notes")
    assert page.is_disabled("#step")


def test_a_difference_is_listed_line_by_line(open_page, graph, tmp_path):
    evaluation = recorded(Net().eval())[1].graph
    difference = viz.diff(graph, evaluation, opened=["bn1"])
    page = open_page(difference.save(tmp_path / "d.html"))
    shown = page.inner_text("aside .pre").splitlines()
    assert [line for line in shown if line] == [line for line in difference.text().splitlines() if line]
    assert page.inner_text("h1") == "Net → Net"
    assert "Mean" in labels(page)


def test_inside_a_frame_that_is_shown_later(browser, file, tmp_path):
    """As in a run's report, where it is folded away at first."""
    (tmp_path / "g.html").write_bytes(file.read_bytes())
    report = tmp_path / "report.html"
    report.write_text('<details><summary>graph</summary><iframe src="g.html" width="900" height="600"></iframe>'
                      "</details>", encoding="utf-8")
    heard = []
    page = browser.new_page()
    page.on("console", lambda message: heard.append(message.text))
    page.goto(report.as_uri())
    page.click("summary")
    page.frame_locator("iframe").locator(".node").first.click()
    box = page.frame_locator("iframe").locator("#graph").get_attribute("viewBox").split()
    assert heard == []
    assert 300 < float(box[2]) < 2000
    page.close()


def test_the_data_in_the_page_are_the_views(file, graph):
    text = file.read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert len(data["states"]) > 4
    first = data["states"][0]
    assert len(first["n"]) == len(graph.view().nodes)
    for state in data["states"]:
        assert all(0 <= to < len(data["states"]) for to, _ in state["go"].values())
