"""Photos of coloured squares with pairs that name the colours; a tiny CLIP to start from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskclip.adaptation.config import (
    AdaptConfig,
    DataConfig,
    PairSource,
    TowerConfig,
    TrainConfig,
)
from maskclip.clip_config import ClipConfig
from maskclip.clip_folder import save_clip
from maskclip.clip_models import build_clip
from maskclip.pairs import Pair, write_pairs_folder

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
TEXT = {"width": 16, "heads": 1, "layers": 1, "context_length": 24}
MODEL = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}


@pytest.fixture
def colour_pairs(tmp_path) -> Path:
    """8 photos of 32 x 48, each with a 12 x 16 box less a corner: red, blue, red, blue ..."""
    (tmp_path / "photos").mkdir()
    rows = []
    for index in range(8):
        name = list(COLOURS)[index % 2]
        photo = np.full((32, 48, 3), 128, np.uint8)
        mask = np.zeros((32, 48), bool)
        mask[4 + index : 16 + index, 8:24] = True
        mask[4 + index : 10 + index, 8:16] = False
        photo[mask] = COLOURS[name]
        Image.fromarray(photo).save(tmp_path / "photos" / f"{index}.png")
        rows.append(Pair.from_mask(mask, image=f"{index}.png", noun=name))
    write_pairs_folder(tmp_path / "pairs", rows, images=tmp_path / "photos", config={})
    return tmp_path / "pairs"


@pytest.fixture
def start(tmp_path) -> Path:
    """A checkpoint folder with a tiny ViT-CLIP of random weights."""
    torch.manual_seed(0)
    save_clip(build_clip(ClipConfig(name="tiny", model=MODEL)), tmp_path / "start", {})
    return tmp_path / "start"


@pytest.fixture
def config_for():
    """A short training on a folder of pairs; settings are those of ``train``."""

    def config_for(pairs, **train_settings) -> AdaptConfig:
        settings = {"learning_rate": 3e-3, "weight_decay": 0.0, "warmup_steps": 2, "steps": 30}
        settings |= {"batch_size": 8, "workers": 0, "loss": "vocabulary"}
        source = PairSource(str(pairs), exclusive=True)
        return AdaptConfig(
            TowerConfig(prompt_depth=2, templates="single", background="attenuate"),
            DataConfig(sources=(source,), evaluate=(source,)),
            TrainConfig(**(settings | train_settings)),
        )

    return config_for
