"""Reports: one file, no request to anywhere, text that cannot become markup, the data of every chart."""

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from minigrad.run.chart import Chart, Marker, Reference, Series
from minigrad.run.report import render_report, write_report
from minigrad.run.table import Table

NASTY = "<img src=x onerror=alert(1)> & \"two\" 'one' größe 正 </script><!-- {x}"
EMPTY_ELEMENTS = {"meta"}


class Page(HTMLParser):
    """The elements, attributes and texts of a page; opening and closing tags have to match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))

    def of(self, tag: str) -> list[str]:
        return [text for parent, text in self.texts if parent == tag]


def example(text: str = "plain") -> dict[str, object]:
    steps = [0, 100, 200]
    series = [Series(f"none {text}", steps, [0.1, 0.5, 0.8]), Series("batch", steps, [0.1, math.nan, 0.9])]
    chart = Chart(
        f"Accuracy {text}",
        f"steps {text}",
        f"accuracy {text}",
        series,
        references=[Reference(0.8, f"best {text}")],
        markers=[Marker("batch", 200, 0.9, f"step 200 {text}")],
        percent=True,
        description=f"Higher is better {text}",
    )
    return {
        "title": f"Title {text}",
        "finding": f"Finding {text}",
        "tables": [Table(("network", f"n {text}"), [(f"none {text}", 1), ("batch", 2)], caption=f"Table {text}")],
        "charts": [chart, Chart("Seconds", "s", "y", [Series("a", [1, 2], [1, 2]), Series("b", [1], [3])])],
        "notes": [f"Note {text}", "Another"],
        "config": {f"key {text}": f"value {text}", "optimizer": {"lr": 0.1, "sizes": [1, 2]}, "flag": True},
        "environment": {"python": "3.x", "seed": None},
    }


def test_every_text_appears_and_none_becomes_markup() -> None:
    plain, nasty = Page(render_report(**example())), Page(render_report(**example(NASTY)))
    shape = [(tag, sorted(attrs)) for tag, attrs in plain.tags]
    assert shape == [(tag, sorted(attrs)) for tag, attrs in nasty.tags]
    everything = "\n".join(text for _, text in nasty.texts)
    for start in ("Title", "Finding", "Table", "Accuracy", "Higher is better", "Note", "key", "value", "n"):
        assert f"{start} {NASTY}" in everything, start
    assert nasty.of("title")[0] == nasty.of("h1")[0] == f"Title {NASTY}"
    assert not {"img", "iframe", "link", "object", "a"} & {tag for tag, _ in nasty.tags}


def test_the_page_names_no_other_place() -> None:
    text = render_report(**example())
    page = Page(text)
    assert not re.search(
        r"[a-z]+:?//|@import|@font-face|data:|blob:|\bfetch\(|XMLHttpRequest", re.sub(r"\s//.*", "", text)
    )
    assert re.findall(r"url\((?!#chart-\d-(?:wide|narrow)-clip\))", text) == []
    for tag, attrs in page.tags:
        assert not {"src", "href", "xlink:href", "srcset", "action", "style"} & set(attrs), tag
        assert not [name for name in attrs if name.startswith("on")], tag


def test_the_policy_forbids_everything_but_the_page_s_own_style_and_script() -> None:
    page = Page(render_report(**example(NASTY)))
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert [digest(text) for text in page.of("style")] == [rules["style-src"]]
    assert digest(page.of("script")[-1]) == rules["script-src"]
    kinds = [attrs.get("type") for tag, attrs in page.tags if tag == "script"]
    assert kinds == ["application/json", "application/json", None]
    assert [tag for tag, _ in page.tags].index("meta") < [tag for tag, _ in page.tags].index("style")


def test_the_data_of_a_chart_can_be_read_off_and_looked_up() -> None:
    page = Page(render_report(**example(NASTY)))
    data = json.loads(page.of("script")[0])
    assert data["series"][0] == {
        "name": f"none {NASTY}",
        "colour": "s0",
        "x": [0, 100, 200],
        "y": [0.1, 0.5, 0.8],
    }
    assert data["series"][1]["y"] == [0.1, None, 0.9]
    cells = page.of("td")
    for row in (["10.00 %", "10.00 %"], ["50.00 %", "nan"], ["80.00 %", "90.00 %"]):
        assert any(cells[at : at + 2] == row for at in range(len(cells)))
    # Series with different x have a row per point.
    assert any(cells[at : at + 2] == ["1", "3.0000"] for at in range(len(cells)))


def test_long_data_are_shown_in_part_and_said_to_be() -> None:
    x = np.arange(10_000)
    text = render_report(title="t", finding="f", charts=[Chart("c", "x", "y", [Series("a", x, x**2)])])
    page = Page(text)
    rows = page.of("td")
    assert len(rows) == 200
    assert "200 of 10,000 rows, evenly spaced." in page.of("p")
    assert rows[-1] == "99,980,001" or rows[-1].startswith("9.998×10⁷")
    assert json.loads(page.of("script")[0])["series"][0]["x"][-1] == 9999
    assert len(text) < 120_000


def test_ids_are_unique() -> None:
    page = Page(render_report(**example()))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) == 2 * 2 * 3
    wanted = {name for _, attrs in page.tags for name in (attrs.get("aria-labelledby") or "").split()}
    assert wanted <= set(ids)


def test_settings_are_flat_and_in_order() -> None:
    page = Page(render_report(**example()))
    facts = page.of("th")[-6:]
    assert facts == ["key plain", "optimizer.lr", "optimizer.sizes", "flag", "python", "seed"]
    assert page.of("td")[-6:] == ["value plain", "0.1", "1, 2", "yes", "3.x", "–"]


def test_parts_that_are_not_given_are_left_out() -> None:
    page = Page(render_report(title="t", finding="f"))
    assert page.of("h2") == []
    assert not {"figure", "table", "section"} & {tag for tag, _ in page.tags}


def test_headings_follow_the_order_of_the_page() -> None:
    page = Page(render_report(**example()))
    headings = [(parent, text) for parent, text in page.texts if parent in ("h1", "h2", "h3")]
    assert headings == [
        ("h1", "Title plain"),
        ("h3", "Accuracy plain"),
        ("h3", "Seconds"),
        ("h2", "How this was measured"),
        ("h2", "Settings"),
        ("h2", "Environment"),
    ]


def test_the_file_is_replaced_whole_and_errors_name_it(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old", encoding="utf-8")
    assert write_report(target, **example(NASTY)) == target
    assert target.read_text(encoding="utf-8") == render_report(**example(NASTY))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(OSError, match=r"cannot write '.*nowhere.*r\.html'"):
        write_report(tmp_path / "nowhere" / "r.html", **example())
