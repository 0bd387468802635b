"""`python -m observability.source [--check]`: write every generated file, or tell which are not what they should be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from observability.source.registry import RENDERERS
from observability.source.slo import load_objectives

ROOT = Path(__file__).parents[2]


def rendered() -> dict[str, str]:
    """The text of every generated file by its path from the root."""
    objectives = load_objectives(ROOT / "observability/slo.yaml")
    return {path: text for renderer in RENDERERS for path, text in renderer.render(objectives).items()}


def drift(files: dict[str, str], root: Path = ROOT) -> list[str]:
    """What differs between the files below `root` and those rendered: a line each."""
    found: list[str] = []
    for path, text in sorted(files.items()):
        present = root / path
        if not present.exists():
            found.append(f"{path} is missing")
        elif present.read_text() != text:
            found.append(f"{path} differs from its source")
    owned = {file for renderer in RENDERERS for glob in renderer.owns for file in root.glob(glob)}
    left = sorted(str(file.relative_to(root)) for file in owned if str(file.relative_to(root)) not in files)
    return [*found, *(f"{path} is not generated any more" for path in left)]


def write(files: dict[str, str], root: Path = ROOT) -> None:
    """Write what differs and remove what is not generated any more."""
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_text() != text:
            target.write_text(text)
    for line in drift(files, root):
        (root / line.split(" ", 1)[0]).unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 when `--check` finds drift."""
    parser = argparse.ArgumentParser(prog="python -m observability.source", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is not up to date")
    options = parser.parse_args(arguments)
    files = rendered()
    if not options.check:
        write(files)
        return 0
    found = drift(files)
    for line in found:
        sys.stderr.write(f"{line}: run `make observability` and commit what it writes\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
