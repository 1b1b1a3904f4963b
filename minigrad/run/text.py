"""Text that is safe to show: printable, escaped, measured in columns; and numbers as people read them."""

from __future__ import annotations

import html
import math
import unicodedata

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _is_safe(character: str) -> bool:
    """Whether a character can neither move the cursor, reorder its line, nor break XML or UTF-8."""
    category = unicodedata.category(character)
    if category in ("Cc", "Cs", "Zl", "Zp"):
        return False
    bidirectional_control = unicodedata.bidirectional(character) in (
        "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
    )  # fmt: skip
    return not bidirectional_control and ord(character) & 0xFFFE != 0xFFFE


def printable(text: object) -> str:
    """Give the text on one line, with every control character replaced by U+FFFD.

    Parameters
    ----------
    text : object
        Anything; ``str(text)`` is shown.

    Returns
    -------
    str
        Text without control characters, lone surrogates, direction overrides or line separators.
        Tabs and newlines become spaces.
    """
    return "".join(
        " " if character in "\t\r\n" else character if _is_safe(character) else _REPLACEMENT for character in str(text)
    )


def escape(text: object) -> str:
    """Escape text for HTML and XML, as content or inside a quoted attribute.

    Parameters
    ----------
    text : object
        Anything; ``str(text)`` is escaped.

    Returns
    -------
    str
        `printable` text in which ``& < > " '`` are entities.
    """
    return html.escape(printable(text), quote=True)


def display_width(text: str) -> int:
    """Count the terminal columns that a text takes.

    Parameters
    ----------
    text : str
        One line of printable text.

    Returns
    -------
    int
        Columns: two for East Asian wide characters, none for combining marks and joiners, else one.
    """
    width = 0
    for character in text:
        if unicodedata.category(character) in ("Mn", "Me", "Cf"):
            continue
        width += 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
    return width


def pad(text: str, width: int, align: str = "l") -> str:
    """Fill a text with spaces up to a number of terminal columns.

    Parameters
    ----------
    text : str
        One line of printable text.
    width : int
        Columns wanted; a text that is wider stays as it is.
    align : {"l", "r"}
        Where the text stands.

    Returns
    -------
    str
        The padded text.
    """
    fill = " " * max(0, width - display_width(text))
    return fill + text if align == "r" else text + fill


def shorten(text: str, width: int) -> str:
    """Cut a text to at most `width` terminal columns, ending in ``…`` where something was cut.

    Parameters
    ----------
    text : str
        One line of printable text.
    width : int
        Columns allowed, zero or more.

    Returns
    -------
    str
        The text, or its beginning and an ellipsis.
    """
    if display_width(text) <= width:
        return text
    kept = text
    while kept and display_width(kept) > width - 1:
        kept = kept[:-1]
    return kept + "…" if width > 0 else ""


def format_number(value: float, digits: int = 4) -> str:
    """Write a number for people: grouped thousands, few digits, ``×10ⁿ`` for the very large and small.

    Parameters
    ----------
    value : float
        An int keeps all its digits below 10¹²; a float is rounded.
    digits : int
        Significant digits of a float.

    Returns
    -------
    str
        For example ``"46,900"``, ``"0.3121"``, ``"2.5×10⁻⁶"``, ``"nan"``, ``"∞"``.
    """
    if isinstance(value, int) and abs(value) < 10**12:
        return f"{value:,}"
    value = float(value)
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -5 < power < 7:
        return f"{value:,.{max(0, digits - 1 - power)}f}"
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}×10{str(power).translate(_SUPERSCRIPT)}"


def format_percent(fraction: float, decimals: int = 1) -> str:
    """Write a fraction as a percentage.

    Parameters
    ----------
    fraction : float
        1.0 is 100 %.
    decimals : int
        Digits after the point.

    Returns
    -------
    str
        For example ``"81.2 %"``; ``"nan"`` or ``"∞"`` where the fraction is not finite.
    """
    if not math.isfinite(fraction):
        return format_number(fraction)
    return f"{100 * fraction:,.{decimals}f} %"


def format_duration(seconds: float) -> str:
    """Write a time span as ``m:ss`` or ``h:mm:ss``.

    Parameters
    ----------
    seconds : float
        Seconds, zero or more; rounded to whole seconds.

    Returns
    -------
    str
        For example ``"0:07"``, ``"12:40"``, ``"3:05:09"``; ``"?"`` where it is not finite.
    """
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
