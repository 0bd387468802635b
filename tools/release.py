"""Prepare a release: `make release VERSION=x.y.z`.

Moves the changelog's Unreleased entries into a section of the version, sets the version in `service/__init__.py`,
commits both and tags the commit `vx.y.z`. It never pushes. Exit status: 0 released, 1 git failed, 2 refused, with one
line that says why.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

ROOT = Path(__file__).parents[1]
CHANGELOG = "CHANGELOG.md"
VERSION_FILE = "service/__init__.py"
VERDICT_FILE = "build/release/verdict.json"
"""Written by `make release-check`."""
UNRELEASED = "## Unreleased\n"
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_ASSIGNMENT = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)


class ReleaseRefused(Exception):
    """The release cannot be made; the message says what to do. Nothing has changed."""


class Verdict(Struct, frozen=True):
    """The part of a release check's verdict that is read here."""

    verdict: str
    began: float
    """Seconds since the epoch."""


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Make the release, or say in one line why not."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("version", help="x.y.z, as Semantic Versioning numbers releases", metavar="VERSION")
    version: str = parser.parse_args(arguments).version
    try:
        advice = release(root, version, datetime.now(UTC).date())
    except ReleaseRefused as refusal:
        sys.stderr.write(f"release: {refusal}\n")
        return 2
    except subprocess.CalledProcessError as failure:
        sys.stderr.write(f"release: git failed, nothing was released: {failure.stderr.strip()}\n")
        return 1
    sys.stdout.write(f"Released {version} as commit and tag v{version}, on this machine alone.\n{advice}")
    sys.stdout.write(f"To publish it: git push origin HEAD v{version}\n")
    return 0


def release(root: Path, version: str, today: date) -> str:
    """Commit and tag the release; return advice, a line or nothing.

    Raises ReleaseRefused, and CalledProcessError with the files as they were.
    """
    require_clean(root)
    require_new(root, version)
    advice = check_advice(root)
    changelog = cut_changelog((root / CHANGELOG).read_text(encoding="utf-8"), version, today)
    source = _ASSIGNMENT.sub(f'__version__ = "{version}"', (root / VERSION_FILE).read_text(encoding="utf-8"))
    try:
        (root / CHANGELOG).write_text(changelog, encoding="utf-8")
        (root / VERSION_FILE).write_text(source, encoding="utf-8")
        _git(root, "commit", "--quiet", "--message", f"Release {version}", "--", CHANGELOG, VERSION_FILE)
    except subprocess.CalledProcessError:
        _git(root, "checkout", "--quiet", "HEAD", "--", CHANGELOG, VERSION_FILE)
        raise
    _git(root, "tag", "--annotate", "--message", f"Release {version}", f"v{version}")
    return advice


def require_clean(root: Path) -> None:
    """Refuse a release from anything but a branch without uncommitted changes."""
    if _git(root, "status", "--porcelain"):
        raise ReleaseRefused("there are uncommitted changes: commit or stash them")
    if not _git(root, "branch", "--show-current"):
        raise ReleaseRefused("no branch is checked out: check out the branch to release from")


def require_new(root: Path, version: str) -> None:
    """Refuse what is no version, an older one than the present, and one that has a tag."""
    if not _VERSION.fullmatch(version):
        raise ReleaseRefused(f"{version!r} is no version: give three numbers, as in VERSION=1.2.3")
    found = _ASSIGNMENT.search((root / VERSION_FILE).read_text(encoding="utf-8"))
    if found is None:
        raise ReleaseRefused(f"{VERSION_FILE} has no __version__")
    if _numbers(version) < _numbers(found[1]):
        raise ReleaseRefused(f"{version} is older than {found[1]}, the present version")
    if _git(root, "tag", "--list", f"v{version}"):
        raise ReleaseRefused(f"{version} is released already: the tag v{version} exists")


def cut_changelog(text: str, version: str, today: date) -> str:
    """Put a heading with the version and its date above the Unreleased entries, and leave Unreleased empty.

    Raises ReleaseRefused.
    """
    before, heading, after = text.partition(UNRELEASED)
    if not heading:
        raise ReleaseRefused(f"{CHANGELOG} has no section '## Unreleased'")
    if f"\n## {version} " in text:
        raise ReleaseRefused(f"{CHANGELOG} has a section of {version} already")
    entries = after.partition("\n## ")[0]
    if not re.search(r"^- ", entries, re.MULTILINE):
        raise ReleaseRefused(f"{CHANGELOG} has nothing under '## Unreleased': write what changes for users")
    return f"{before}{UNRELEASED}\n## {version} - {today.isoformat()}\n{after}"


def check_advice(root: Path) -> str:
    """Return a line of advice unless the release check has passed on this commit; nothing is refused for it."""
    try:
        verdict = msgspec.json.decode((root / VERDICT_FILE).read_bytes(), type=Verdict)
    except (OSError, msgspec.MsgspecError):
        return "Not checked: run `make release-check` on this commit before you publish it.\n"
    if verdict.began < float(_git(root, "log", "-1", "--format=%ct")):
        return "The last `make release-check` was before this commit: run it again before you publish it.\n"
    if verdict.verdict != "pass":
        outcome = verdict.verdict.replace("_", " ")
        return f"The last `make release-check` says {outcome}: read build/release/release.html.\n"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 -- git, with arguments of this module's own
        ["git", *arguments],  # noqa: S607 -- as the caller's PATH finds it
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
