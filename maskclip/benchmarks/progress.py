"""What is measured so far, so that a stopped evaluation goes on."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class ProgressFile:
    """JSON lines: what is measured first, then the records of each batch as it is done.

    A half-written last line, which a kill leaves, is dropped.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        """Read what an earlier run of the same ``facts`` left; of others nothing is kept."""
        self.path = path
        self.facts = json.loads(json.dumps(facts))
        self.batches: dict[int, list[Any]] = {}
        lines = self._read()
        if lines and lines[0] == self.facts:
            self.batches = {line["batch"]: line["records"] for line in lines[1:]}
        elif lines:
            logger.warning("%s is of another evaluation: starting anew", path)
        text = "".join(self._line(each) for each in lines if self.batches) or self._line(self.facts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def add(self, batch: int, records: list[Any]) -> None:
        """Keep the records of a batch."""
        self.batches[batch] = records
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self._line({"batch": batch, "records": records}))

    def remove(self) -> None:
        """The numbers are written: nothing is left to go on with."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> list[Any]:
        if not self.path.is_file():
            return []
        lines = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return lines

    @staticmethod
    def _line(content: Any) -> str:
        return json.dumps(content, separators=(",", ":")) + "\n"
