"""Which pixels get no name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from maskclip.names import Vocabulary, parse_names, split_classes

THRESHOLD = "threshold:"


@dataclass(frozen=True)
class Background:
    """What ``none``, ``threshold:T`` or ``NAME,...`` asks for (DESIGN, Formats)."""

    threshold: float = 0.0  # pixels of lower confidence are ignored
    names: tuple[str, ...] = ()  # compete after the user's; what they win is ignored

    @classmethod
    def parse(cls, text: str) -> Background:
        """Read the setting; ``\\,`` is a comma inside a name.

        Raises:
            ValueError: a threshold that is no number in [0, 1], a blank name, nothing at all.
        """
        if text == "none":
            return cls()
        if text.startswith(THRESHOLD):
            return cls(threshold=_parse_threshold(text))
        if not text:
            raise ValueError("background must be none, threshold:T or NAME,..., got nothing")
        return cls(names=parse_names(split_classes(text)).names)

    def extend(self, names: Sequence[str]) -> tuple[Vocabulary, int]:
        """The user's names with the background's behind them, and how many are the user's.

        A background name that is also the user's is the user's.
        """
        count = len(parse_names(names))
        return parse_names([*names, *self.names]), count

    def ignored(self, labels: Tensor, confidence: Tensor, count: int) -> Tensor:
        """labels (H, W), confidence (H, W), number of the user's names -> (H, W) bool."""
        return (labels < 0) | (labels >= count) | (confidence < self.threshold)


def _parse_threshold(text: str) -> float:
    number = text.removeprefix(THRESHOLD)
    try:
        threshold = float(number)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise ValueError(
            f"background threshold:T needs a number in [0, 1], got {number!r}: try threshold:0.3"
        )
    return threshold
