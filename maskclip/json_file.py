"""JSON that people can read, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proposal.whole_file import write_whole


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write UTF-8; bytes of file names that are no text become escapes."""
    text = json.dumps(content, ensure_ascii=False, indent=1)
    write_whole(path, text.encode("utf-8", "backslashreplace") + b"\n")
