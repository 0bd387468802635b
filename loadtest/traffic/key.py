"""The API key with which the clients come."""

from __future__ import annotations

import os
from pathlib import Path

from loadtest.errors import BadInput


def key() -> str:
    """Give the API key. Raises BadInput when there is none."""
    file = os.environ.get("FEATURE_AGENT_KEY_FILE")
    try:
        found = Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get("FEATURE_AGENT_KEY", "")
    except OSError as error:
        raise BadInput(f"FEATURE_AGENT_KEY_FILE={file}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadInput(f"FEATURE_AGENT_KEY_FILE={file}: holds no text") from None
    if not found:
        raise BadInput("no API key: set FEATURE_AGENT_KEY, or FEATURE_AGENT_KEY_FILE to a file that holds it")
    return found
