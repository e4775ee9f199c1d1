"""What a classifier of many closed classes makes of a region, as a point among the names' texts.

A network that ImageNet's 1.3 M photos taught a thousand classes knows how far more things look
than the pairs of a training show, and what their texts have in common carries it over to names
that neither was ever told. Two old ways to say an image in words, each of unit length, are added:
the mean of the classes' texts, weighted by how likely each class is (ConSE, Norouzi et al., arXiv
1312.5650), and the classifier's features mapped to texts as its own classes' rows are (ridge
regression between both, after Elhoseiny et al., "Write a Classifier", ICCV 2013).

R: regions, C: classes, F: channels of the classifier's features, D: embedding size.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from maskclip.adaptation.config import ClassifierConfig
from maskclip.adaptation.disk_cache import load_or_compute
from maskclip.adaptation.features import CHUNK, fingerprint_weights
from maskclip.adaptation.region_crops import RegionCrops
from maskclip.clip import MaskClip
from maskclip.hybrid import build_trunk
from maskclip.names import read_class_file
from maskclip.trunk_weights import load_classifier, load_trunk_weights
from maskclip.unseen_words import fold_noun
from proposal.inference_copy import InferenceCopy

TEMPERATURE = 2.0  # of the classes' logits; the likeliest class alone says too little
RIDGE = 1.0  # of the regression; the texts, less their mean, are shorter than 1


class ClassTeacher:
    """A convolutional classifier on a CLIP's device, and the texts of its classes in its space."""

    def __init__(
        self, config: ClassifierConfig, clip: MaskClip, leave_out: Collection[str] = ()
    ) -> None:
        """``leave_out``: nouns (as ``fold_noun`` has them) whose classes teach nothing.

        Raises:
            FileNotFoundError: the weights or the file of names are missing.
            ValueError: they do not fit, or no class is left.
        """
        names = read_class_file(config.names)
        self.trunk = build_trunk(32, True, config.trunk).eval()
        load_trunk_weights(self.trunk, config.weights)
        self.trunk.to(clip.device, memory_format=torch.channels_last)
        weight, bias = load_classifier(config.weights, len(names))  # (C, F), (C,)
        kept = [index for index, name in enumerate(names) if fold_noun(name) not in leave_out]
        if not kept:
            raise ValueError(f"data.leave_out_nouns leaves no class of {config.names}")
        texts = clip.encode_nouns(tuple(names[index] for index in kept)).cpu()  # (C, D)
        self.texts = texts - texts.mean(0)
        self.weight, self.bias = weight[kept], bias[kept]
        rows = F.normalize(self.weight - self.weight.mean(0), dim=-1)  # (C, F)
        kernel = self.texts @ self.texts.mT + RIDGE * torch.eye(len(kept))  # (C, C)
        self.to_text = rows.mT @ torch.linalg.solve(kernel, self.texts)  # (F, D)
        self._inference = InferenceCopy()

    @torch.no_grad()
    def see(self, crops: Tensor) -> Tensor:
        """(N, 3, S, S) crops in [-1, 1] -> (N, F), the means of the last map."""
        return self._inference.of(self.trunk)(crops).mean((2, 3))

    def points(self, features: Tensor) -> Tensor:
        """(N, F) -> (N, D) unit length."""
        mapped = F.normalize(features, dim=-1) @ self.to_text
        logits = features @ self.weight.mT + self.bias  # (N, C)
        mixed = (logits / TEMPERATURE).softmax(-1) @ self.texts
        return F.normalize(F.normalize(mapped, dim=-1) + F.normalize(mixed, dim=-1), dim=-1)


def load_hints(
    crops: RegionCrops,
    clip: MaskClip,
    config: ClassifierConfig,
    cache: str = "",
    leave_out: Collection[str] = (),
) -> Tensor:
    """(R, D) float32: the point of each region's plain crop; the features are kept in ``cache``."""
    teacher = ClassTeacher(config, clip, leave_out)
    trunk_sha256 = fingerprint_weights(teacher.trunk)
    points = torch.zeros(len(crops.table.regions), clip.embed_dim)
    for source in range(len(crops.table.sources)):
        own = np.flatnonzero(crops.table.region_source == source)
        parts = {
            "classifier": trunk_sha256,
            "regions": crops.table.fingerprint(source),
            "crops": crops.spec,
        }
        compute = partial(_see_regions, teacher, crops, clip, own)
        features = load_or_compute(cache, parts, "classes", compute)
        points[own] = teacher.points(torch.from_numpy(features.astype(np.float32)))
    return points


def _see_regions(
    teacher: ClassTeacher, crops: RegionCrops, clip: MaskClip, regions: NDArray[np.int64]
) -> NDArray[np.float16]:
    """(R_s, F) of the plain crops of ``regions``."""
    found = np.zeros((len(regions), teacher.weight.shape[1]), dtype=np.float16)
    starts = range(0, len(regions), CHUNK)
    for start in tqdm(starts, desc="classifier", unit_scale=CHUNK, unit=" regions"):
        cut, _ = crops.cut_many(regions[start : start + CHUNK], None)
        seen = teacher.see(clip.normalise(cut.to(clip.device)))
        found[start : start + CHUNK] = seen.half().cpu().numpy()
    return found
