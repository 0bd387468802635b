"""Numbers and texts as people read them: 1,234, 1.5 s, 99.9 %, and no character that could change what is shown."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

NOTHING = "—"
"""Where there is no number."""
MAX_TEXT = 400
"""Characters of one text: error texts of a service can be as long as it likes."""
SECOND_MS = 1000.0
MINUTE = 60
HOUR = 3600
TEN, HUNDRED, THOUSAND = 10, 100, 1000

# Control characters, halves of surrogate pairs, non-characters, and the marks that reverse the direction of text.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """Make every character visible, and cut what is too long."""
    cut = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT:,} more characters)"
    return visible(cut)


def visible(text: str) -> str:
    r"""Write characters that terminals, XML or a reader's eye take wrongly as `\x1b`."""
    return _UNSAFE.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Clean a text and put it on one line."""
    return " ".join(clean(text).split())


def number(value: float | None) -> str:
    """Write a number whose unit is elsewhere: five significant digits, thousands grouped."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == round(value):
        return f"{value:,.0f}"
    digits = max(0, 4 - math.floor(math.log10(abs(value))))
    plain = f"{value:,.{min(digits, 9)}f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def share(good: float, total: float) -> str:
    """Write a share in percent, rounded down: 100 % is written of all alone."""
    if total <= 0:
        return NOTHING
    return percent(good / total)


def percent(part: float | None) -> str:
    """Write a part of 1 in percent, rounded down to three digits after the point."""
    if part is None or not math.isfinite(part):
        return NOTHING
    # The small addition makes up for 0.29 * 100 being 28.999999999999996; it is far below the digits that are shown.
    floored = math.floor(part * 100_000 + 1e-6) / THOUSAND
    return f"{number(floored)} %"


def duration_ms(value: float | None) -> str:
    """Write milliseconds as ms, or from one second on as s, with three significant digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value < SECOND_MS - 0.5:  # 999.9 would be written as 1,000 ms
        return f"{_three(value)} ms"
    return f"{_three(value / SECOND_MS)} s"


def span(seconds: float) -> str:
    """Write a stretch of time: `45 s`, `6 min 30 s`, `2 h 5 min`."""
    if not math.isfinite(seconds):
        return NOTHING
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min" + (f" {whole % MINUTE} s" if whole % MINUTE else "")
    minutes = whole % HOUR // MINUTE
    return f"{whole // HOUR} h" + (f" {minutes} min" if minutes else "")


def clock(seconds: float) -> str:
    """Write seconds since the beginning as on a stopwatch: `1:05`, `1:02:05`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, HOUR)
    minutes, left = divmod(rest, MINUTE)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def moment(epoch: float) -> str:
    """Write seconds since the epoch as a time of day in UTC."""
    try:
        return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return NOTHING


def quantity(value: float | None, unit: str) -> str:
    """Write a number with its unit: `ms` and `seconds` in the size that reads well, others grouped."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if unit == "ms":
        return duration_ms(value)
    if unit == "clock":
        return clock(value)
    plain = _three(value)
    return f"{plain} {unit}" if unit else plain


def _three(value: float) -> str:
    """Write three significant digits, and never fewer than those before the point."""
    size = abs(value)
    if size >= HUNDRED or value == round(value):
        return f"{value:,.0f}"
    plain = f"{value:.1f}" if size >= TEN else f"{value:.2f}"
    return plain.rstrip("0").rstrip(".")


def _escape(found: re.Match[str]) -> str:
    """Write one character as its escape."""
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - a byte
