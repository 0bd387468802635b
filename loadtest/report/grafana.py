"""Annotations on Grafana's dashboards: when a load test ran, with which verdict, and its stages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)

from loadtest.report.formats import number, one_line
from loadtest.report.gates import WORDS, headline
from loadtest.results import Run
from loadtest.verdict import Verdict

TIMEOUT_SECONDS = 5.0
PATH = "/api/annotations"
TAGS = ("load-test", "feature-agent")
Annotation = dict[str, object]


def annotate(url: str, token: str, verdict: Verdict, runs: Sequence[Run]) -> str | None:
    """Post an annotation for the load test and one for each stage to the Grafana at `url`.

    Returns None, or one line that says what went wrong: it is a warning, since a verdict does not depend on Grafana.
    After the first failure nothing more is sent. The token is in the Authorization header alone.
    """
    if fault := _fault(url, token):
        return f"Grafana has no annotation of this run: {fault}"
    opener = _opener()
    posts = list(regions(verdict, runs))
    for index, annotation in enumerate(posts):
        if fault := _post(opener, url.rstrip("/") + PATH, token.strip(), annotation):
            return f"Grafana took {index} of {len(posts)} annotations of this run: {fault}"
    return None


def regions(verdict: Verdict, runs: Sequence[Run]) -> Iterator[Annotation]:
    """Build the region of the whole load test, then one for each stage. Grafana shows a text as HTML: it is escaped."""
    tags = [*TAGS, one_line(verdict.shape)]
    words = f"Load test {verdict.shape}: {WORDS[verdict.verdict]}. {headline(verdict)} Run {verdict.run_id}."
    yield _region(verdict.began, verdict.ended, [*tags, verdict.verdict], words)
    for run in runs:
        for stage in run.stages:
            achieved = f"{number(stage.achieved_rate)} of {number(stage.rate)} clients a second"
            yield _region(stage.began, stage.ended, [*tags, "stage"], f"Stage {stage.name}: {achieved}. Run {run.id}.")


def _opener() -> OpenerDirector:
    """Open http and https alone: no proxy, and no redirect, which would carry the token to another host."""
    opener = OpenerDirector()
    for handler in (HTTPHandler(), HTTPSHandler(), HTTPErrorProcessor(), HTTPDefaultErrorHandler()):
        opener.add_handler(handler)
    return opener


def _region(began: float, ended: float, tags: list[str], words: str) -> Annotation:
    """Build one annotation; Grafana counts in milliseconds."""
    text = escape(one_line(words))
    return {"time": round(began * 1000), "timeEnd": round(ended * 1000), "tags": tags, "text": text}


def _fault(url: str, token: str) -> str:
    """Say what is wrong with the arguments, without showing them: both may hold a secret."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return "its URL cannot be read"
    if not usable:
        return "its URL must begin with http:// or https:// and name a host"
    if parts.username or parts.password or parts.query or parts.fragment:
        return "its URL must hold no user, password, query or fragment"
    clean = token.strip()
    if not clean or not clean.isascii() or not clean.isprintable() or " " in clean:
        return "the token must be one word of ASCII characters"
    return ""


def _post(opener: OpenerDirector, url: str, token: str, annotation: Annotation) -> str:
    """Post one annotation. Returns what went wrong; never what the server wrote, which could repeat the token."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"}
    request = Request(url, json.dumps(annotation).encode(), headers, method="POST")  # noqa: S310 - http(s) alone, see _fault
    try:
        # The status says everything; an answer that never ends is not waited for.
        opener.open(request, timeout=TIMEOUT_SECONDS).close()
    except HTTPError as error:
        error.close()
        return f"it answered {error.code}"
    except URLError as error:
        return f"it cannot be reached ({_reason(error.reason)})"
    except (OSError, HTTPException, ValueError) as error:
        return f"it cannot be reached ({_reason(error)})"
    return ""


def _reason(error: object) -> str:
    """Name what the system says of a failed connection."""
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror)
    return type(error).__name__
