"""A training small enough for tests: photos of coloured boxes, a network of 0.3 M parameters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SETTINGS = [
    "proposer.backbone.type=timm:test_convnext",
    "proposer.hidden_dim=32",
    "proposer.dim_feedforward=32",
    "proposer.conv_dim=32",
    "proposer.mask_dim=8",
    "proposer.class_hidden_dim=16",
    "proposer.num_queries=6",
    "proposer.nheads=2",
    "proposer.dec_layers=2",
    "proposer.short_side=64",
    "criterion.mask_loss_stride=4",
    "train.iterations=4",
    "train.batch_size=2",
    "train.warmup_iterations=1",
    "train.ema_decay=0.9",
    "train.workers=0",
    "train.log_iterations=1",
    "data.sides=[64]",
]


def write_data(folder: Path) -> None:
    """Three photos with COCO instances, one of them held out, and the YAML that names them."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 90, (60, 80, 3), dtype=np.uint8)
        for x in (5, 45):
            picture[10:40, x : x + 25] = 200
            box = [x, 10, x + 25, 10, x + 25, 40, x, 40]
            annotations.append(
                {"image_id": number, "segmentation": [box], "area": 750, "iscrowd": 0}
            )
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 60, "width": 80})
    content = {"images": images, "annotations": annotations}
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "held_out.txt").write_text("2.png\n\n")
    source = '{images: "{here}/images", instances: "{here}/instances.json"}'
    (folder / "config.yaml").write_text(
        f'data:\n  folders: {{here: "{folder}"}}\n  held_out: "{{here}}/held_out.txt"\n'
        f"  sources: [{source}]\n  validation: {source}\n"
    )
