"""What a column's name says of its values: keys, instants, days, lengths of time.

A name only decides where values alone leave it open: ten digits may be an instant or a number of something.
"""

from __future__ import annotations

from service.features.personal import words_of


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


IDENTIFIER_HEADS = frozenset({"id", "ids", "uuid", "guid", "key", "pk", "uid", "oid", "identifier", "identificador"})
"""Last words of names that say "this is a key", however often its values repeat: `user_id` in an event log does."""
IDENTIFIER_HINTS = frozenset({"code", "number", "no", "nr", "num", "ref", "reference", "hash", "index", "serial"})
"""Last words of names that mean a key only where no value repeats."""

TIME_WORDS = _words("""
    ts time timestamp timestamps datetime date dates epoch unixtime zeit zeitpunkt zeitstempel datum fecha hora heure
    horodatage ora czas tijd tijdstip
""")
"""Words that name an instant wherever they stand in a name."""
TIME_ENDINGS = _words("at when since until")
"""Words that name an instant at a name's end: `created_at`, `member_since`."""
EVENTS = _words("""
    created updated modified changed deleted inserted registered received sent started ended finished expires expired
    occurred logged seen visited purchased ordered shipped delivered paid opened closed published posted
""")
"""Words that name an instant alone: `created`, but not `bytes_sent`."""
DAY_WORDS = _words("day ymd yyyymmdd dt dob birthdate birthday dia jour giorno dag birth")
"""Words that name a day; the ones above may, too."""
DURATION_WORDS = _words("""
    duration elapsed spent taken timeout uptime runtime age delta diff difference lag interval latency delay remaining
    watch play wait response processing travel length count total number size avg average mean sum per pace lap laps
    split dauer duree duracion
""")
"""Words that make a time a length of time, or a number of something."""


def head_of(name: str) -> str:
    """Return the name's last word, in lower case; empty when it has none."""
    words = words_of(name)
    return words[-1] if words else ""


def is_key_name(name: str) -> bool:
    """Tell whether the name may be that of a key."""
    return head_of(name) in IDENTIFIER_HEADS | IDENTIFIER_HINTS


def is_time_name(name: str) -> bool:
    """Tell whether the name is that of an instant: `created_at`, `ts`, `order_date`; not `time_spent`."""
    words = words_of(name)
    instant = set(words) & TIME_WORDS or (words and words[-1] in TIME_ENDINGS) or set(words) & EVENTS == set(words)
    return bool(words and instant) and not is_duration_name(name) and not is_key_name(name)


def is_day_name(name: str) -> bool:
    """Tell whether the name is that of a day, which that of an instant may be, too."""
    named_so = bool(set(words_of(name)) & DAY_WORDS) and not is_duration_name(name) and not is_key_name(name)
    return named_so or is_time_name(name)


def is_duration_name(name: str) -> bool:
    """Tell whether the name is that of a length of time."""
    return bool(set(words_of(name)) & DURATION_WORDS)
