"""Secrets that a development service makes for itself: files that only their owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def private_folder(folder: Path) -> Path:
    """Make the folder, readable by its owner alone, and give it back."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def read_secret(path: Path) -> str | None:
    """The file's secret, or None when there is none."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def write_secret(path: Path, secret: str) -> None:
    """Replace the file in one step, with mode 0600 from its first byte on."""
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")
    draft.replace(path)


def secret_kept_in(path: Path) -> str:
    """The file's secret, made on the first call; processes that race for it agree on one."""
    if found := read_secret(path):
        return found
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_secret(draft, secrets.token_urlsafe(48))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text(encoding="utf-8").strip()
