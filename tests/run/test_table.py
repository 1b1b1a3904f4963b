"""Tables: columns are aligned by what a terminal shows, and HTML cannot be broken by text."""

import math
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from minigrad.run.table import Table
from minigrad.run.text import display_width, format_duration, format_number, format_percent, shorten


def test_numbers_stand_right_and_text_left() -> None:
    table = Table(
        ("network", "accuracy", "steps", "loss", "note"),
        [("none", "81.2 %", 46900, 0.5, "plain"), ("batch", "7.9 %", 800, 12.25, None), ("x", None, 1, math.nan, "")],
        caption="Results",
    )
    assert table.text() == (
        "Results\n"
        "network  accuracy   steps   loss  note\n"
        "-------  --------  ------  -----  -----\n"
        "none       81.2 %  46,900   0.50  plain\n"
        "batch       7.9 %     800  12.25  –\n"
        "x               –       1    nan"
    )


def test_columns_are_aligned_by_terminal_width() -> None:
    wide, combining = "正規化", "e\u0301tude"
    lines = Table(("name", "n"), [(wide, 1), (combining, 22), ("plain", 333)]).text().splitlines()
    assert [display_width(line) for line in lines] == [len("plain  333") + 1] * 5
    assert display_width(wide) == 6
    assert display_width(combining) == 5


def test_floats_of_a_column_share_decimals_unless_that_hides_one() -> None:
    def column(*values: float) -> list[str]:
        return [line.strip() for line in Table(("v",), [(value,) for value in values]).text().splitlines()[2:]]

    assert column(0.5, 0.125, 0.25) == ["0.5000", "0.1250", "0.2500"]
    assert column(1234.5, 20.25) == ["1,234", "20"]
    assert column(1.5, 1e-6) == ["1.500", "1×10⁻⁶"]
    assert column(np.float32(0.5), np.float64(2)) == ["0.500", "2.000"]
    assert column(True, np.bool_(False)) == ["yes", "no"]


def test_alignment_can_be_chosen() -> None:
    assert Table(("net", "b"), [("12-layer", "x")], align="lr").text().splitlines()[2] == "12-layer  x"
    with pytest.raises(ValueError, match="align is 'l'; wanted 2 letters"):
        Table(("a", "b"), [], align="l")


def test_an_empty_table_has_its_headings() -> None:
    assert Table(("a", "bc"), []).text() == "a  bc\n-  --"
    assert ET.fromstring(Table((), []).html()).tag == "table"


def test_rows_are_checked() -> None:
    with pytest.raises(ValueError, match="row 1 has 1 cells; wanted 2"):
        Table(("a", "b"), [(1, 2), (1,)])
    with pytest.raises(TypeError, match="row 0, column 'a' holds list"):
        Table(("a",), [([1],)])


def test_html_is_well_formed_and_gives_every_text_back() -> None:
    nasty = "<b a=\"1\" c='2'>&amp; größe 正</b>"
    root = ET.fromstring(Table((nasty, "n"), [(nasty, 1.5)], caption=nasty).html())
    assert root.find("caption").text == nasty
    assert [head.text for head in root.iter("th")] == [nasty, "n", nasty]
    number = root.find("tbody/tr/td")
    assert (number.text, number.get("class")) == ("1.500", "num")
    assert root.find("tbody/tr/th").get("scope") == "row"


def test_control_characters_reach_neither_terminal_nor_html() -> None:
    table = Table(("a",), [("x\x1b[31m\x00\ud800\uffff y\nz",)])
    assert table.text().splitlines()[2:] == ["x\ufffd[31m\ufffd\ufffd\ufffd y z"]
    assert ET.fromstring(table.html()).find("tbody/tr/th").text == "x\ufffd[31m\ufffd\ufffd\ufffd y z"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (46900, "46,900"),
        (10**12, "1×10¹²"),
        (0.0, "0"),
        (0.31214, "0.3121"),
        (99.996, "100.0"),
        (123456.7, "123,457"),
        (2.5e-6, "2.5×10⁻⁶"),
        (-1.5e9, "-1.5×10⁹"),
        (math.nan, "nan"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
    ],
)
def test_numbers_are_written_for_people(value: float, text: str) -> None:
    assert format_number(value) == text


def test_percentages_durations_and_cuts() -> None:
    assert [format_percent(value) for value in (0.8124, 1, math.nan)] == ["81.2 %", "100.0 %", "nan"]
    assert [format_duration(value) for value in (0, 59.6, 3605, math.inf)] == ["0:00", "1:00", "1:00:05", "?"]
    assert [shorten("正規化", columns) for columns in (6, 5, 4, 1, 0)] == ["正規化", "正規…", "正…", "…", ""]


def test_markdown():
    table = Table(("network", "a|b"), [("none", 81.25), ("batch", None)], "Results")
    assert table.markdown().splitlines() == [
        "Results", "", r"| network | a\|b |", "| --- | ---: |", "| none | 81.25 |", "| batch | – |"]
