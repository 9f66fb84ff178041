"""JSON that commands print for scripts."""

import json
from typing import Any

SCHEMA_VERSION = 1
"""Version of all documents. It rises when a key is removed or changes its meaning."""


def json_document(content: dict[str, Any]) -> str:
    """Return ``content`` as JSON with the key ``schema``, the version of its keys."""
    return json.dumps({"schema": SCHEMA_VERSION, **content}, indent=2)
