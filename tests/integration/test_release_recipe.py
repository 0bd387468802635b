"""`make release` commits and tags a version on this machine, or refuses and changes nothing."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tools.release import CHANGELOG, VERDICT_FILE, VERSION_FILE, main

TEXT = """# Changelog

Newest first.

## Unreleased

### Added

- A thing.

## 0.1.0 - 2026-01-02

### Added

- The first thing.
"""
SOURCE = '"""The package."""\n\n__version__ = "0.1.0"\n'


def git(folder: Path, *arguments: str) -> str:
    """Run git and return what it prints."""
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clone a repository with a changelog and a version; its user and settings are the test's own."""
    for name, value in {
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    origin = tmp_path / "origin"
    (origin / "service").mkdir(parents=True)
    (origin / CHANGELOG).write_text(TEXT)
    (origin / VERSION_FILE).write_text(SOURCE)
    (origin / ".gitignore").write_text("build/\n")
    git(origin, "init", "--quiet", "--initial-branch=main")
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "--message", "Begin")
    git(tmp_path, "clone", "--quiet", str(origin), "clone")
    return tmp_path / "clone"


def state(clone: Path) -> tuple[str, str, str]:
    """Return the commit, the tags and the changes of a clone."""
    return git(clone, "rev-parse", "HEAD"), git(clone, "tag", "--list"), git(clone, "status", "--porcelain")


def checked(clone: Path, verdict: str, began: float) -> None:
    """Leave the verdict of a release check."""
    (clone / VERDICT_FILE).parent.mkdir(parents=True)
    (clone / VERDICT_FILE).write_text(json.dumps({"verdict": verdict, "began": began, "reasons": []}))


def test_release_cuts_bumps_commits_and_tags(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The entries move under the version with its date, the version is set, and one commit with a tag holds both."""
    before = git(clone, "rev-parse", "HEAD")

    assert main(["0.2.0"], root=clone) == 0

    today = datetime.now(UTC).date().isoformat()
    expected = TEXT.replace("## Unreleased\n", f"## Unreleased\n\n## 0.2.0 - {today}\n", 1)
    assert (clone / CHANGELOG).read_text() == expected
    assert (clone / VERSION_FILE).read_text() == SOURCE.replace("0.1.0", "0.2.0")
    assert git(clone, "rev-parse", "HEAD~1") == before
    assert git(clone, "log", "-1", "--format=%s") == "Release 0.2.0"
    assert git(clone, "rev-parse", "v0.2.0^{commit}") == git(clone, "rev-parse", "HEAD")
    assert git(clone, "cat-file", "-t", "v0.2.0") == "tag"
    assert git(clone, "show", "--name-only", "--format=") == f"{CHANGELOG}\n{VERSION_FILE}"
    assert git(clone, "status", "--porcelain") == ""
    assert "git push origin HEAD v0.2.0" in capsys.readouterr().out


def test_release_is_never_pushed(clone: Path) -> None:
    """The repository that was cloned has neither the commit nor the tag."""
    origin = clone.parent / "origin"
    before = state(origin)

    assert main(["1.0.0"], root=clone) == 0
    assert state(origin) == before


def test_present_version_without_a_tag_can_be_released(clone: Path) -> None:
    """The first release may keep the version that the package has."""
    (clone / CHANGELOG).write_text(TEXT.replace("## 0.1.0 - 2026-01-02", "## 0.0.9 - 2026-01-02"))
    git(clone, "commit", "--quiet", "--all", "--message", "Correct the changelog")

    assert main(["0.1.0"], root=clone) == 0
    assert git(clone, "tag", "--list") == "v0.1.0"


@pytest.mark.parametrize("version", ["1.2", "v1.2.3", "1.2.3rc1", "01.2.3", "1.2.3\n", ""])
def test_what_is_no_version_is_refused(clone: Path, version: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Three numbers without leading zeros are a version; anything else ends with status 2 and one line."""
    before = state(clone)

    assert main([version], root=clone) == 2
    error = capsys.readouterr().err
    assert "is no version" in error
    assert error.count("\n") == 1
    assert state(clone) == before


def test_uncommitted_changes_are_refused(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A release holds what is committed: a changed or a new file stops it."""
    (clone / "new.txt").write_text("new")
    before = state(clone)

    assert main(["0.2.0"], root=clone) == 2
    assert "uncommitted changes" in capsys.readouterr().err
    assert state(clone) == before


def test_detached_head_is_refused(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A commit that no branch holds would be lost."""
    git(clone, "checkout", "--quiet", "--detach")
    before = state(clone)

    assert main(["0.2.0"], root=clone) == 2
    assert "no branch is checked out" in capsys.readouterr().err
    assert state(clone) == before


def test_older_version_is_refused(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Versions are compared as numbers, part by part."""
    (clone / VERSION_FILE).write_text(SOURCE.replace("0.1.0", "0.10.0"))
    git(clone, "commit", "--quiet", "--all", "--message", "Set the version")
    before = state(clone)

    assert main(["0.9.9"], root=clone) == 2
    assert "0.9.9 is older than 0.10.0" in capsys.readouterr().err
    assert state(clone) == before


def test_released_version_is_refused(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A version is released once: its tag, or its section in the changelog, stops another."""
    before = state(clone)
    assert main(["0.1.0"], root=clone) == 2
    assert "has a section of 0.1.0 already" in capsys.readouterr().err
    assert state(clone) == before

    git(clone, "tag", "v0.2.0")
    assert main(["0.2.0"], root=clone) == 2
    assert "the tag v0.2.0 exists" in capsys.readouterr().err


def test_release_without_entries_is_refused(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second release right after the first has nothing to tell its users."""
    assert main(["0.2.0"], root=clone) == 0
    before = state(clone)

    assert main(["0.3.0"], root=clone) == 2
    assert "nothing under '## Unreleased'" in capsys.readouterr().err
    assert state(clone) == before


def test_commit_that_fails_leaves_the_files_as_they_were(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When a hook refuses the commit, nothing is released and the working tree is clean."""
    hook = clone / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho the hook says no >&2\nexit 1\n")
    hook.chmod(0o755)
    before = state(clone)

    assert main(["0.2.0"], root=clone) == 1
    assert "the hook says no" in capsys.readouterr().err
    assert state(clone) == before


@pytest.mark.parametrize(
    ("verdict", "age", "advice"),
    [
        (None, 0, "Not checked: run `make release-check`"),
        ("pass", 3600, "was before this commit"),
        ("not_measured", -60, "says not measured"),
        ("pass", -60, ""),
    ],
)
def test_release_check_is_advised(
    clone: Path, verdict: str | None, age: float, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless the check passed on this commit the release says so, and is made all the same."""
    if verdict is not None:
        checked(clone, verdict, time.time() - age)

    assert main(["0.2.0"], root=clone) == 0
    said = capsys.readouterr().out
    assert advice in said
    assert ("release-check" in said) == bool(advice)
