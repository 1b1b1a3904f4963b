"""Progress: exactly one plain line per epoch without a terminal; on one, lines that are rewritten in place."""

import io
import re

import pytest

from minigrad.run.progress import Progress
from minigrad.run.text import display_width


class Clock:
    """A clock that is set by hand, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and counts its writes."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)


class Screen:
    """What a terminal of some width shows after a text; it knows just the controls that may be used."""

    def __init__(self, text: str, columns: int = 80) -> None:
        self.lines = [""]
        self.row = self.column = 0
        for part in re.findall(r"\x1b\[\d*[A-Z]|[\s\S]", text):
            self.feed(part)
            assert all(display_width(line) < columns for line in self.lines), "a line wraps"

    def feed(self, part: str) -> None:
        if part == "\r":
            self.column = 0
        elif part == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.lines):
                self.lines.append("")
        elif part == "\x1b[K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
            self.row -= int(up[1])
            assert self.row >= 0
        else:
            assert part >= " ", repr(part)
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + part + line[self.column + 1 :]
            self.column += 1


@pytest.fixture(autouse=True)
def ordinary_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")


def train(progress: Progress, clock: Clock, series: str, epochs: int = 3, per_epoch: int = 100) -> None:
    """Go through a training at 50 steps a second."""
    progress.start(series, epochs=epochs, steps=epochs * per_epoch)
    for epoch in range(1, epochs + 1):
        for step in range((epoch - 1) * per_epoch + 1, epoch * per_epoch + 1):
            clock.now += 0.02
            progress.update(series, step=step, epoch=epoch, loss=1 / step)
        progress.end_epoch(series, step=step, epoch=epoch, loss=1 / step, accuracy=1 - 0.5 / epoch)
    progress.finish(series)


def test_without_a_terminal_there_is_exactly_one_plain_line_per_epoch() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(stream, clock=clock) as progress:
        train(progress, clock, "none")
        train(progress, clock, "batch")
    assert stream.getvalue() == (
        "none  epoch 1/3  step 100/300  loss 0.0100  accuracy 50.0 %  50.0 steps/s  0:04 left\n"
        "none  epoch 2/3  step 200/300  loss 0.0050  accuracy 75.0 %  50.0 steps/s  0:02 left\n"
        "none  epoch 3/3  step 300/300  loss 0.0033  accuracy 83.3 %  50.0 steps/s  0:00 left\n"
        "batch  epoch 1/3  step 100/300  loss 0.0100  accuracy 50.0 %  50.0 steps/s  0:04 left\n"
        "batch  epoch 2/3  step 200/300  loss 0.0050  accuracy 75.0 %  50.0 steps/s  0:02 left\n"
        "batch  epoch 3/3  step 300/300  loss 0.0033  accuracy 83.3 %  50.0 steps/s  0:00 left\n"
    )


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    clock, stream = Clock(), Terminal()
    with Progress(stream, clock=clock) as progress:
        train(progress, clock, "none")
    assert stream.getvalue().count("\n") == 3
    assert "\r" not in stream.getvalue()


def test_a_terminal_shows_one_line_per_series_and_keeps_the_last_state() -> None:
    clock, stream = Clock(), Terminal()
    with Progress(stream, clock=clock) as progress:
        train(progress, clock, "none")
        train(progress, clock, "batch")
    screen = Screen(stream.getvalue(), columns=100)
    assert screen.lines == [
        "none  epoch 3/3  step 300/300  loss 0.0033  accuracy 83.3 %  50.0 steps/s  took 0:06",
        "batch  epoch 3/3  step 300/300  loss 0.0033  accuracy 83.3 %  50.0 steps/s  took 0:06",
        "",
    ]
    assert (screen.row, screen.column) == (2, 0)


def test_series_that_run_at_once_have_a_line_each_and_finish_in_any_order() -> None:
    clock, stream = Clock(), Terminal()
    with Progress(stream, clock=clock, interval=0.0) as progress:
        for name in ("one", "two", "three"):
            progress.start(name, epochs=1, steps=10)
        for step in range(1, 10):
            for name in ("one", "two", "three"):
                clock.now += 0.1
                progress.update(name, step=step, epoch=1, loss=0.5)
            shown = Screen(stream.getvalue(), columns=100).lines
            assert [line.split()[0] for line in shown] == ["one", "two", "three"]
            assert all(f"step  {step}/10" in line for line in shown)
        progress.finish("two")
        progress.update("three", step=10, epoch=1)
    shown = Screen(stream.getvalue(), columns=100).lines
    assert [line.split()[0] for line in shown[:-1]] == ["two", "one", "three"]
    assert "took" in shown[0]
    assert "step 10/10" in shown[2]
    assert shown[-1] == ""


def test_redraws_are_limited_in_rate_and_each_is_one_write() -> None:
    clock, stream = Clock(), Terminal()
    with Progress(stream, clock=clock, interval=0.5) as progress:
        train(progress, clock, "none")  # 300 updates in 6 seconds
        assert 10 <= len(stream.writes) <= 6 / 0.5 + 2
    assert not any("\x1b[2" in text or "\x1b[J" in text for text in stream.writes), "clearing first flickers"


@pytest.mark.parametrize("columns", [10, 25, 40, 60, 79, 100])
def test_lines_stay_within_the_terminal_and_lose_the_least_telling_parts_first(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    clock, stream = Clock(), Terminal()
    with Progress(stream, clock=clock) as progress:
        train(progress, clock, "none")
    line = Screen(stream.getvalue(), columns).lines[0]
    parts = ["none", "epoch 3/3", "loss 0.0033", "accuracy 83.3 %", "took 0:06", "step 300/300", "50.0 steps/s"]
    shown = [part for part in parts if part in line]
    assert shown == parts[: len(shown)]
    assert (columns < 100) or shown == parts
    assert line.startswith("none")


def test_a_name_wider_than_the_terminal_is_cut_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    stream = Terminal()
    with Progress(stream, clock=Clock()) as progress:
        progress.start("正規化正規化正規化", epochs=1, steps=1)
    lines = stream.getvalue().replace("\x1b[K", "").replace("\r", "\n").split("\n")
    assert lines[1] == "正規化正規…"
    assert all(display_width(line) <= 11 for line in lines)


def test_more_series_than_the_terminal_has_lines_do_not_scroll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "4")
    clock, stream = Clock(), Terminal()
    with Progress(stream, clock=clock, interval=0.0) as progress:
        for number in range(9):
            progress.start(f"s{number}", epochs=1, steps=1)
        assert len(Screen(stream.getvalue(), columns=100).lines) == 3


def test_an_interrupt_passes_and_leaves_the_cursor_on_a_fresh_line() -> None:
    clock, stream = Clock(), Terminal()
    progress = Progress(stream, clock=clock)

    def interrupted() -> None:
        with progress:
            progress.start("none", epochs=2, steps=100)
            clock.now = 1.0
            progress.update("none", step=7, epoch=1, loss=0.25)
            stream.write("^C")  # what the terminal itself shows
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    screen = Screen(stream.getvalue(), columns=100)
    assert screen.lines == ["none  epoch 1/2  step   7/100  loss 0.2500  7.00 steps/s  0:13 left", ""]
    assert (screen.row, screen.column) == (1, 0)
    before = stream.getvalue()
    progress.close()
    assert stream.getvalue() == before


def test_nothing_is_written_when_nothing_was_shown() -> None:
    stream = Terminal()
    with Progress(stream):
        pass
    assert stream.getvalue() == ""


@pytest.mark.parametrize("make", [io.StringIO, Terminal])
def test_names_can_neither_steer_the_terminal_nor_break_the_line(make: type) -> None:
    clock, stream = Clock(), make()
    with Progress(stream, clock=clock, interval=0.0) as progress:
        train(progress, clock, "a\x1b[2J\r\nb\u202e", epochs=1, per_epoch=2)
    text = stream.getvalue()
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert "a\ufffd[2J  b\ufffd  epoch 1/1" in text


def test_a_stream_of_another_encoding_gets_question_marks_instead_of_an_error() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    clock = Clock()
    with Progress(stream, clock=clock) as progress:
        train(progress, clock, "größe", epochs=1)
    assert raw.getvalue().startswith(b"gr??e  epoch 1/1")


def test_diverged_and_missing_numbers_are_shown_as_they_are() -> None:
    stream = io.StringIO()
    with Progress(stream, clock=Clock()) as progress:
        progress.start("a", epochs=3, steps=3)
        progress.end_epoch("a", step=1, epoch=1)
        progress.end_epoch("a", step=2, epoch=2, loss=float("nan"), accuracy=float("nan"))
        progress.end_epoch("a", step=3, epoch=3, loss=3.5e9)
    assert stream.getvalue().splitlines() == [
        "a  epoch 1/3  step 1/3  0 steps/s  ? left",
        "a  epoch 2/3  step 2/3  loss nan  accuracy nan  0 steps/s  ? left",
        "a  epoch 3/3  step 3/3  loss 3.5×10⁹  accuracy nan  0 steps/s  ? left",
    ]


def test_wrong_calls_are_refused_by_name() -> None:
    with Progress(io.StringIO()) as progress:
        with pytest.raises(ValueError, match="'a' is not running"):
            progress.update("a", step=1, epoch=1)
        progress.start("a", epochs=2, steps=2)
        with pytest.raises(ValueError, match="'a' has been started already"):
            progress.start("a", epochs=2, steps=2)
        progress.end_epoch("a", step=1, epoch=1)
        with pytest.raises(ValueError, match="ended epoch 1 after epoch 1"):
            progress.end_epoch("a", step=1, epoch=1)
        progress.finish("a")
        with pytest.raises(ValueError, match=r"'a' is not running; running are \[\]"):
            progress.finish("a")
