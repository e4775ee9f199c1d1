"""The head that names places of a photo."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from maskclip.checkpoint import load_clip
from maskclip.clip import MaskClip
from maskclip.clip_config import ClipConfig
from maskclip.clip_folder import save_clip
from maskclip.clip_models import build_clip
from maskclip.dense_head import DenseHead
from maskclip.photo_context import CHANNELS
from maskclip.segmentor import Segmentor
from maskclip.segmentor_config import SegmentorConfig
from proposal.proposals import Proposals

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"width": 16, "heads": 1, "layers": 1, "context_length": 24},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))


def build(width: int = 24) -> MaskClip:
    torch.manual_seed(0)
    config = ClipConfig(model=TINY, photo_context=True, dense_width=width, templates="single")
    return build_clip(config)


class OneMask(torch.nn.Module):
    """A proposer that sees one soft mask over everything."""

    def propose(self, image: np.ndarray) -> Proposals:  # noqa: ARG002
        return Proposals(torch.full((1, 10, 12), 0.9), torch.ones(1))


def random_photo(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (60, 90, 3), dtype=np.uint8)


def test_it_reads_the_map_as_deeplab_s_own_head_does(shared):
    from labeling.teachers import TeacherDeepLab

    file = shared / "weights" / "mobilenetv2_100_voc_deeplab.safetensors"
    teacher = TeacherDeepLab.load(file)
    head = DenseHead(16, 24)
    rows = head.load(file)
    images = torch.rand(1, 3, 97, 129) * 2 - 1
    with torch.no_grad():
        expected = teacher(images)[0].flatten(1).mT  # (u * v, 21)
        _, seen = teacher._features(images)
        cells = seen[0].flatten(1).mT
        said = rows(head.read(cells, cells.mean(0).expand_as(cells)))
    torch.testing.assert_close(said, expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_map_is_its_cells():
    head = DenseHead(16, 24).eval()
    seen = torch.randn(CHANNELS, 3, 5)
    places = head.embed_map(seen)
    assert places.shape == (16, 3, 5)
    torch.testing.assert_close(places.norm(dim=0), torch.ones(3, 5))
    whole = seen.mean(dim=(1, 2))[None]
    torch.testing.assert_close(places[:, 1, 4], head(seen[None, :, 1, 4], whole)[0])
    other = seen.clone()
    other[:, 0, 0] += 5
    assert not torch.allclose(head.embed_map(other)[:, 1, 4], places[:, 1, 4], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"deeplab.aspp0.weight": None}, "lacks deeplab.aspp0.weight"),
        ({"deeplab.logits.weight": torch.zeros(21, 5, 1, 1)}, "must take 256 channels"),
    ],
)
def test_other_weights_are_refused(tmp_path, change, message):
    sizes = {"image_pooling": (256, 320), "aspp0": (256, 320), "concat_projection": (256, 512)}
    stored = {}
    for name, (out, inputs) in {**sizes, "logits": (21, 256)}.items():
        stored[f"deeplab.{name}.weight"] = torch.zeros(out, inputs, 1, 1)
        stored[f"deeplab.{name}.bias"] = torch.zeros(out)
    changed = {key: value for key, value in (stored | change).items() if value is not None}
    save_file(changed, tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match=message):
        DenseHead(16, 24).load(tmp_path / "head.safetensors")
    with pytest.raises(FileNotFoundError, match="no weights of a DeepLab head"):
        DenseHead(16, 24).load(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"?")
    with pytest.raises(ValueError, match="cannot be read"):
        DenseHead(16, 24).load(tmp_path / "broken.safetensors")


@torch.no_grad()
def test_a_checkpoint_keeps_it(tmp_path):
    clip = build()
    save_clip(clip, tmp_path / "run", {})
    again = load_clip(str(tmp_path / "run"))
    assert again.config == clip.config
    seen = torch.randn(CHANNELS, 3, 4)
    torch.testing.assert_close(again.encode_places(seen), clip.encode_places(seen))


@torch.no_grad()
def test_places_change_what_pixels_are_called():
    clip, names = build(), ["cat", "a much longer name of something", "sky"]
    config = SegmentorConfig(dense_weight=1.0, dense_temperature=50.0)
    segmentor = Segmentor(OneMask(), clip, config, proposer_name="one mask")
    photo = random_photo()
    result = segmentor.segment(photo, names, return_scores=True)
    texts, _ = clip.encode_names(names)
    places = clip.encode_places(clip.see(photo))  # (D, u, v)
    probs = (50 * torch.einsum("duv,cd->cuv", places, texts)).softmax(dim=0)
    grid = torch.nn.functional.interpolate(probs[None], (10, 12), mode="bilinear")
    expected = torch.nn.functional.interpolate(grid, (60, 90), mode="bilinear")[0]
    torch.testing.assert_close(torch.from_numpy(result.scores), expected, atol=1e-4, rtol=0)
    plain = Segmentor(OneMask(), clip, SegmentorConfig(), proposer_name="one mask")
    assert len(np.unique(np.asarray(plain.segment(photo, names).labels))) == 1  # one mask, one name
    ahead = replace(config, head_start=2.0)
    clip.change(replace(clip.config, taught=("cat", "sky")))
    segmentor.config = ahead  # the name that is new gains in places, too
    assert (np.asarray(segmentor.segment(photo, names).labels) == 1).all()


def test_what_cannot_be_served_is_refused():
    plain = build(width=0)
    with pytest.raises(ValueError, match="needs a CLIP with a dense head"):
        Segmentor(OneMask(), plain, SegmentorConfig(dense_weight=0.4))
    with pytest.raises(ValueError, match="needs a CLIP with a dense head"):
        plain.encode_places(torch.zeros(CHANNELS, 2, 2))
    with pytest.raises(ValueError, match="dense_width must be 0, or above with photo_context"):
        ClipConfig(dense_width=8)
    for weight in (-0.1, 1.1):
        with pytest.raises(ValueError, match="dense_weight must be in"):
            SegmentorConfig(dense_weight=weight)
