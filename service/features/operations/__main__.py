"""Print the reference of operations: `python -m service.features.operations`."""

from __future__ import annotations

import sys

from service.features.operations.document import document

sys.stdout.write(document())
