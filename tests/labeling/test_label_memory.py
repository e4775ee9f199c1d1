"""Memory stays flat over 100,000 photos."""

import json
import threading
from pathlib import Path

import pytest
from PIL import Image

from labeling.label_config import LabelConfig
from labeling.self_label import Job, self_label

COUNT, EVERY = 100_000, 500  # photos; one in so many has a noun, and so goes through the model
SETTLED = 0.2  # of the photos, after which memory may hardly grow
SPARE = 48  # MiB


@pytest.mark.slow
def test_memory_is_flat_over_100_000_photos(tmp_path, tiny_checkpoint):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (24, 16), "red").save(tmp_path / "one.png")
    with (tmp_path / "captions.jsonl").open("w") as file:
        for index in range(COUNT):
            (photos / f"{index:06d}.png").symlink_to(tmp_path / "one.png")
            said = "A dog." if index % EVERY == 0 else "Blue."
            file.write(json.dumps({"file": f"{index:06d}.png", "caption": said}) + "\n")
    seen: list[tuple[float, float]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            shards = len(list(tmp_path.glob("out/*.parquet")))
            seen.append((shards / (COUNT / 1000), resident_mib()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        config = LabelConfig(str(tiny_checkpoint), shard_size=1000)
        job = Job(photos, tmp_path / "captions.jsonl", tmp_path / "out", config, workers=1)
        summary = self_label(job)
    finally:
        stop.set()
        watcher.join()
    assert (summary["images"], summary["pairs"]) == (COUNT, COUNT // EVERY)
    early = max(mib for share, mib in seen if share <= SETTLED)
    late = max(mib for share, mib in seen if SETTLED < share < 1)
    print(f"resident: {early:.0f} MiB at first, {late:.0f} MiB later")
    assert late < early + SPARE


def resident_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")
