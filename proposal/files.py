"""Ready masks from region PNGs as proposals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from proposal.data.regions import read_map, split_map
from proposal.proposals import Proposals


class FilesProposer:
    """Reads ``<folder>/<stem>.png``: each value but 0 is a region, each with score 1.

    The PNG may have 8 bits, 16 bits or a palette, and any resolution of the photo's shape.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"files: needs a folder of region PNGs, found no {folder}")

    def propose(self, image: np.ndarray) -> Proposals:
        """Never works: pixels do not tell which file belongs to them.

        Raises:
            ValueError: always; ``propose_batch`` says which.
        """
        raise ValueError(
            f"files:{self.folder} must know the file name of a photo {image.shape[:2]}: "
            "give photos as paths, or call propose_batch(images, stems)"
        )

    def propose_batch(
        self, images: Sequence[np.ndarray], stems: Sequence[str | None]
    ) -> list[Proposals]:
        """B images (H, W, 3) uint8 RGB and their B file stems -> B Proposals."""
        return [self._read(image, stem) for image, stem in zip(images, stems, strict=True)]

    def _read(self, image: np.ndarray, stem: str | None) -> Proposals:
        if stem is None:
            return self.propose(image)
        path = self.folder / f"{stem}.png"
        if not path.is_file():
            raise FileNotFoundError(f"there is no region PNG {path} for the photo {stem}")
        masks = torch.from_numpy(split_map(read_map(path))).float()  # (Q, h, w)
        height, width = masks.shape[1:]
        # Within a pixel of the photo's shape, which is what rounding a resized photo may cost
        if abs(height * image.shape[1] - width * image.shape[0]) > max(image.shape[:2]):
            raise ValueError(
                f"{path} must have the shape of its photo {image.shape[:2]}, got {(height, width)}"
            )
        return Proposals(masks, torch.ones(len(masks)))
