"""Label maps as COCO's run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def encode_labels(labels: np.ndarray) -> list[tuple[int, dict[str, Any]]]:
    """(H, W) integers -> (value, COCO RLE of its pixels) for every value there is.

    One pass over the pixels whatever the number of values: runs are found once, columns first as
    COCO does, then dealt out to their values.
    """
    height, width = labels.shape
    flat = labels.ravel(order="F")  # (H * W,)
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    ends = np.append(starts[1:], flat.size)
    order = np.argsort(flat[starts], kind="stable")
    values, first = np.unique(flat[starts][order], return_index=True)
    encoded = []
    for value, runs in zip(values, np.split(order, first[1:]), strict=True):
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=flat.size)
        counts = counts if counts[-1] else counts[:-1]
        rle = {"size": [height, width], "counts": counts.tolist()}
        encoded.append((int(value), coco_mask.frPyObjects(rle, height, width)))
    return encoded
