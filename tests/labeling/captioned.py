"""Small captioned photos for tests; read by ``runpy.run_path``."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SENTENCES = (
    "A dog runs after a red ball.",
    "Two cats sleep on the sofa.",
    "A man with a hat rides a bicycle.",
    "A dog and a cat look at the bird.",
    "Very nice and quite blue.",  # no noun at all
)


def write_captioned(folder: Path, count: int) -> tuple[Path, Path]:
    """``count`` photos of noise with two captions each -> their folder, the captions' file."""
    images, captions = folder / "photos", folder / "captions.jsonl"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for index in range(count):
        pixels = rng.integers(0, 255, (4, 6, 3), dtype=np.uint8)
        size_wh = (40 + index % 3, 30)
        Image.fromarray(pixels).resize(size_wh).save(images / f"{index:03d}.png")
        said = [SENTENCES[index % 5], SENTENCES[(index + 3) % 5]]
        lines.append(json.dumps({"file": f"{index:03d}.png", "captions": said}))
    captions.write_text("\n".join(lines), encoding="utf-8")
    return images, captions
