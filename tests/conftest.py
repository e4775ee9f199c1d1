"""What several tests share."""

import runpy
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared folder; a stranger's clone has none, and then the test is skipped."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the project's data folder {folder}, which is not part of the repo")
    return folder


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C counts even where the tests run in the background, which ignores it by default."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_text_cache(tmp_path_factory) -> Iterator[None]:
    """Tests neither read nor fill the user's cache of text embeddings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKCLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def small_hub(tmp_path, monkeypatch):
    """A hub on this machine with nothing in it, an empty cache, no token (tests/hub_server.py)."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a storage of its own
    with runpy.run_path(str(ROOT / "tests" / "hub_server.py"))["serve"]() as hub:
        # What HF_ENDPOINT does where it is set before the client is imported
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint folder with random weights: 5 queries, 32 x 32 crops, no mask prompts."""
    import torch

    from maskclip.clip_config import ClipConfig
    from maskclip.clip_models import build_clip
    from maskclip.segmentor import Segmentor
    from proposal.backbones import BackboneConfig
    from proposal.maskformer import MaskFormer, MaskFormerConfig
    from proposal.maskformer_proposer import MaskFormerProposer

    torch.manual_seed(0)
    backbone = BackboneConfig(type="timm:mobilenetv2_035")
    sizes = {"hidden_dim": 32, "conv_dim": 32, "mask_dim": 8, "dim_feedforward": 32}
    network = MaskFormer(
        MaskFormerConfig(
            backbone, **sizes, num_queries=5, nheads=2, dec_layers=1, short_side=64, max_size=128
        )
    )
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
    text = {"width": 16, "heads": 1, "layers": 1, "context_length": 24}
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    clip = build_clip(ClipConfig(name="tiny", model=model, templates="single"))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    segmentor = Segmentor(MaskFormerProposer(network), clip, name="tiny")
    segmentor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_hub(tmp_path_factory) -> Callable[[str], Path]:
    """``tiny_hub("sam2")``: the folder of a random model as transformers saves it, made once."""
    tiny = runpy.run_path(str(ROOT / "tests" / "proposal" / "tiny_hub.py"))
    place = tmp_path_factory.mktemp("hub")
    return cache(lambda kind: tiny["save_tiny"](kind, place / kind))
