"""The audit after the clients have left: every extraction that was promised is there, once, ended, with its table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from loadtest.measure.api import Api
from loadtest.results import Extractions
from loadtest.traffic.clients import ENDED, Ledger

END_TIMEOUT_SECONDS = 120.0
"""For everything accepted to end once no more is asked for."""
LOOK_SECONDS = 1.0
MAX_TABLES = 50
"""Tables that are downloaded; the newest and the oldest ones."""
MAX_NAMED = 20


def audit(api: Api, ledger: Ledger, datasets: Sequence[str]) -> Extractions:
    """Compare what clients were promised with what the service lists."""
    promised = set(ledger.accepted.values())
    try:
        return _compared(api, ledger, promised, datasets)
    except (OSError, KeyError, TypeError) as error:  # it is gone, or answers something else
        lost = [f"the {len(promised)} accepted extractions cannot be listed any more: {type(error).__name__}: {error}"]
        return Extractions(len(promised), 0, 0, lost, [])


def _compared(api: Api, ledger: Ledger, promised: set[str], datasets: Sequence[str]) -> Extractions:
    listed = _when_all_ended(api, datasets)
    missing = [f"{key}: extraction {of} is not there" for key, of in ledger.accepted.items() if of not in listed]
    unfinished = [f"extraction {of} is still {status}" for of, status in listed.items() if status not in ENDED]
    completed = sorted(of for of, status in listed.items() if status == "completed" and of in promised)
    checked = dict.fromkeys([*completed[: MAX_TABLES // 2], *completed[-MAX_TABLES // 2 :]])
    without = [
        f"extraction {of} is completed and its table cannot be downloaded" for of in checked if not api.has_table(of)
    ]
    unasked = sorted(set(listed) - promised)
    doubled = [f"{key}: answered with two extractions" for key in ledger.doubled]
    if len(unasked) > len(ledger.unknown):
        more = len(unasked) - len(ledger.unknown)
        doubled.append(f"{more} extractions that no client asked for, such as {unasked[0]}")
    statuses = Counter(listed.values())
    return Extractions(
        accepted=len(promised),
        completed=statuses["completed"],
        failed=statuses["failed"],
        lost=[*missing, *unfinished, *without][:MAX_NAMED],
        doubled=doubled[:MAX_NAMED],
    )


def _when_all_ended(api: Api, datasets: Sequence[str]) -> dict[str, str]:
    last = time.monotonic() + END_TIMEOUT_SECONDS
    while True:
        listed = {of: status for dataset in datasets for of, status in api.extractions(dataset).items()}
        if all(status in ENDED for status in listed.values()) or time.monotonic() > last:
            return listed
        time.sleep(LOOK_SECONDS)
