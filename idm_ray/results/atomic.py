"""Writing texts and JSON so that a reader sees the old content or the new one, never a part."""

import json
import os
from collections.abc import Mapping
from typing import Any

from idm_ray.local_disk import atomic_write


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` as UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes `content` as indented JSON, keys in their order, atomically.

    Raises:
        ValueError: `content` holds NaN or an infinity, which JSON cannot express.
        TypeError: `content` holds an object that JSON does not know.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
