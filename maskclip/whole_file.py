"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def open_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only once it is complete.

    The bytes go to a nameless neighbour; when the block ends it replaces ``path`` in one step, when
    the block fails (Ctrl-C included) it is removed and an older ``path`` stays as it was.
    """
    path = Path(path)
    draft = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with draft.open("xb") as file:
            yield file
        os.replace(draft, path)  # noqa: PTH105 (the one word everybody knows for it)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
