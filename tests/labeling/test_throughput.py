"""How fast a model labels."""

import pytest

from labeling.throughput import CAPTIONS, Throughput, measure_throughput


def test_the_sentence_tells_what_coco_would_take():
    # 118,287 photos at 2 a second: 59,143.5 s = 16.43 hours
    told = Throughput(4, "cuda", 2.0, 1234.5).sentence("nano")
    assert told == (
        "labelling with nano: 2.00 photos/s by 4 worker(s) on cuda, peak memory 1,234 MiB each; "
        "COCO's 118,287 photos take 16.4 hours at this pace"
    )


def test_every_photo_has_five_captions():
    assert {len(said) for said in CAPTIONS.values()} == {5}


@pytest.mark.slow
def test_labelling_is_measured_without_the_start_of_the_workers(tiny_checkpoint):
    measured = measure_throughput(str(tiny_checkpoint), device="cpu", workers=1)
    assert (measured.workers, measured.device) == (1, "cpu")
    assert 0.05 < measured.photos_per_second < 1000
    assert 100 < measured.peak_mib < 20_000
