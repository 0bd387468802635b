"""Secrets that a development service generates for itself and keeps in files that only their owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def private_folder(folder: Path) -> Path:
    """Create the folder, readable by its owner alone, unless it exists, and return it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def read_secret(path: Path) -> str | None:
    """Read a secret from its file; None when there is no file or it is empty."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def write_secret(path: Path, secret: str) -> None:
    """Replace the file atomically; it has mode 0600 from its first byte on."""
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")
    draft.replace(path)


def read_or_create_secret(path: Path) -> str:
    """Read the secret from its file, or generate it there on the first call.

    Processes that do this at the same time all get the same secret.
    """
    if found := read_secret(path):
        return found
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_secret(draft, secrets.token_urlsafe(48))
    try:
        os.link(draft, path)  # fails when another process was first
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text(encoding="utf-8").strip()
