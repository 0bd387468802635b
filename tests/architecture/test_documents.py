"""The pages that lead a newcomer name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`((?:service|observability|loadtest|k8s|tools|tests|evals|docs)/[\w./*-]*)`")
LINKED = re.compile(r"\]\((?!https?://)([^)#]+)[^)]*\)")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_and_links_exist(page: Path) -> None:
    """Each path in backquotes from the repository's root, and each relative link, leads to a file or folder."""
    text = page.read_text(encoding="utf-8")
    missing = [name for name in NAMED.findall(text) if not list(ROOT.glob(name.rstrip("/")))]
    missing += [link for link in LINKED.findall(text) if not (page.parent / link).exists()]
    assert not missing
