"""What names of CLIPs stand for: models, tags, files, folders, hub ids."""

import json
import runpy
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg
from safetensors.torch import save

from maskclip.checkpoint import load_clip
from maskclip.checkpoint_source import TEXT_FILES
from maskclip.clip_models import build_clip
from maskclip.clip_source import find_clip, is_open_clip_folder
from maskclip.segmentor import Segmentor
from proposal.superpixels import SuperpixelProposer

SMALL = runpy.run_path(str(Path(__file__).with_name("small_clips.py")))
HUB_NAME = "laion/CLIP-tiny"
WEIGHTS = "open_clip_model.safetensors"
PICKLED = "open_clip_pytorch_model.bin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return SMALL["saved_clip"]("openai vit", tmp_path_factory.mktemp("clips"))[0]


@pytest.fixture
def hub(small_hub, folder):
    small_hub.add(HUB_NAME, {path.name: path.read_bytes() for path in folder.iterdir()})
    return small_hub


def conv(clip) -> torch.Tensor:
    return clip.tower.visual.conv1.weight


@pytest.mark.parametrize("form", ["{}", "local-dir:{}"])
def test_a_folder_in_open_clips_layout(folder, form):
    assert is_open_clip_folder(folder)
    clip = load_clip(form.format(folder), overrides=["background=keep", "mean=[0.1,0.2,0.5]"])
    assert clip.side == 32
    assert clip.config.background == "keep"
    assert clip.config.interpolation == "bilinear"
    assert clip.fill_colour.tolist() == pytest.approx([25.5, 51, 127.5])
    grey = clip.normalise(torch.full((1, 3, 32, 32), 127.5))[0, :, 0, 0]
    assert grey.tolist() == pytest.approx([0.4 / 0.2, 0.3 / 0.3, 0], abs=1e-6)
    with pytest.raises(ValueError, match="clip.prompt_depth belongs to the weights"):
        load_clip(form.format(folder), overrides=["prompt_depth=2"])


def test_weights_without_pickle_come_first(folder, tmp_path):
    for name in ("open_clip_config.json", WEIGHTS):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / PICKLED).write_bytes(b"no pickle")
    (tmp_path / "model.safetensors").write_bytes(b"as transformers has it")
    expected = conv(build_clip(str(tmp_path)))
    (tmp_path / WEIGHTS).unlink()
    torch.save(SMALL["saved_clip"]("openai vit", folder.parent)[1].state_dict(), tmp_path / PICKLED)
    assert torch.equal(conv(build_clip(str(tmp_path))), expected)
    (tmp_path / PICKLED).unlink()
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=f"holds no weights: there must be a {WEIGHTS}"):
        build_clip(str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", '{"model_cfg": {}}', '{"model_cfg": {"text_cfg": 1}}'])
def test_a_damaged_configuration_is_said_so(tmp_path, text):
    (tmp_path / "open_clip_config.json").write_text(text)
    with pytest.raises(ValueError, match="open_clip_config.json is damaged: it must be JSON"):
        build_clip(str(tmp_path))


def test_a_folder_without_a_model_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no open_clip model: it has no open_clip_"):
        build_clip(f"local-dir:{tmp_path}")


def test_a_hub_id_is_fetched_once(hub, folder):
    clip = load_clip(f"hf-hub:{HUB_NAME}")
    assert torch.equal(conv(clip), conv(build_clip(str(folder))))
    assert clip.config.mean == (0.5, 0.4, 0.3)
    asked = sum(count for key, count in hub.requests.items() if key.startswith("GET"))
    build_clip(f"hf-hub:{HUB_NAME}")
    assert sum(n for key, n in hub.requests.items() if key.startswith("GET")) == asked
    commit = hub.repos[HUB_NAME].commit
    assert build_clip(f"hf-hub:{HUB_NAME}@{commit}").side == 32


def test_a_hub_model_may_have_pickled_weights_alone(hub, folder, tmp_path):
    files = hub.repos[HUB_NAME].files
    del files[WEIGHTS]
    torch.save(
        SMALL["saved_clip"]("openai vit", folder.parent)[1].state_dict(), tmp_path / "weights"
    )
    files[PICKLED] = (tmp_path / "weights").read_bytes()
    assert torch.equal(conv(build_clip(f"hf-hub:{HUB_NAME}")), conv(build_clip(str(folder))))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gated": True}, "laion/CLIP-tiny is gated: accept its terms .* set HF_TOKEN"),
        ({"private": True}, "knows no model laion/CLIP-tiny, or it is private"),
        ({"status": 500}, "could not give laion/CLIP-tiny"),
        ({"damaged": True}, "laion/CLIP-tiny is damaged"),
        ({"files": {}}, "laion/CLIP-tiny has no file open_clip_config.json"),
        ({"cut": 5000, "always_cut": True}, "the connection broke while laion/CLIP-tiny"),
    ],
)
def test_what_the_hub_does_not_give_is_one_sentence(hub, monkeypatch, change, words):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    for key, value in change.items():
        setattr(hub.repos[HUB_NAME], key, value)
    with pytest.raises(OSError, match=words) as caught:
        build_clip(f"hf-hub:{HUB_NAME}")
    assert "\n" not in str(caught.value)


def test_a_tag_is_fetched_from_where_open_clip_says(small_hub):
    name, tag = "ViT-B-16", "openai"
    place = get_pretrained_cfg(name, tag)["hf_hub"].strip("/")
    small_hub.add(place, {WEIGHTS: save({"visual.conv1.weight": torch.zeros(1)})})
    source = find_clip(f"{name}/{tag}")
    assert source.weights.name == WEIGHTS
    assert source.model["quick_gelu"]  # open_clip itself only warns
    assert source.preprocess["mean"] == open_clip.OPENAI_DATASET_MEAN
    assert find_clip("ViT-B/16/openai") == source  # OpenAI's own spelling
    with pytest.raises(ValueError, match="does not fit its config"):
        build_clip(f"{name}/{tag}")


def test_a_tag_with_a_file_name_prefers_what_holds_no_pickle(small_hub):
    small_hub.add("jienengchen/ViTamin-S", {"pytorch_model.bin": b"x"})
    assert find_clip("ViTamin-S/datacomp1b").weights.name == "pytorch_model.bin"
    small_hub.add(
        "jienengchen/ViTamin-S", {"pytorch_model.bin": b"x", "pytorch_model.safetensors": b"y"}
    )
    assert find_clip("ViTamin-S/datacomp1b").weights.name == "pytorch_model.safetensors"


@pytest.mark.usefixtures("small_hub")
def test_a_tag_that_cannot_be_fetched_is_one_sentence():
    with pytest.raises(OSError, match="knows no model timm/vit_base_patch16") as caught:
        build_clip("ViT-B-16/openai")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("small_hub")
def test_a_text_tower_that_cannot_be_fetched_is_one_sentence():
    with pytest.raises(OSError, match="xlm-roberta-base") as caught:
        build_clip("xlm-roberta-base-ViT-B-32")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_cannot_be_fetched_is_one_sentence(small_hub, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # it remembers another hub
    place, _ = SMALL["saved_clip"]("siglip", tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (place / file).unlink()
    config = json.loads((place / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "timm/ViT-B-16-SigLIP"
    (place / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(OSError, match="knows no model timm/ViT-B-16-SigLIP") as caught:
        build_clip(str(place))
    assert "\n" not in str(caught.value)
    tokenizer = SMALL["word_tokenizer"]()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    files = {path.name: path.read_bytes() for path in (tmp_path / "tokenizer").iterdir()}
    small_hub.add("timm/ViT-B-16-SigLIP", files)
    assert build_clip(str(place)).text_encoder.tokenizer(["cat dog"]).shape == (1, 20)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("ViT-B-17", "no open_clip model 'ViT-B-17': near it are ViT-B-16"),
        ("ViT-B-16/opnai", "its tags are openai.*did you mean openai"),
        ("ViT-S-32-alt/x.pt", "'x.pt' is neither a file nor a pretrained tag of ViT-S-32-alt"),
        ("laion/CLIP-tiny", "for a model of the hub write hf-hub:laion/CLIP-tiny"),
        ("hf-hub:nobody", "a hub id must look like owner/name"),
        ("maskclip_nano_100_w64_d1_s32", "multiple of 32 pixels, got 100"),
    ],
)
def test_unknown_models_are_refused(spec, words):
    with pytest.raises(ValueError, match=words):
        build_clip(spec)


def test_files_are_normalised_as_the_models_tags_are(tmp_path):
    """A file of weights does not say it, and open_clip would take OpenAI's for all."""
    (tmp_path / "x.pt").write_bytes(b"")
    assert find_clip(f"ViT-B-16-SigLIP/{tmp_path / 'x.pt'}").preprocess["mean"] == (0.5, 0.5, 0.5)
    assert find_clip("MobileCLIP-S1").preprocess["std"] == (1.0, 1.0, 1.0)
    assert find_clip("ViT-S-32-alt").preprocess == {}  # it has no tags


def test_a_text_tower_goes_to_the_hub_and_back(small_hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", small_hub.token)
    place, _ = SMALL["saved_clip"]("roberta text", tmp_path)
    clip = build_clip(str(place))
    segmentor = Segmentor(SuperpixelProposer(), clip, proposer_name="superpixels")
    segmentor.push_to_hub("me/roberta")
    assert set(TEXT_FILES) <= set(small_hub.repos["me/roberta"].files)
    shutil.rmtree(place)
    again = Segmentor.from_pretrained("me/roberta").clip
    assert again.text_fingerprint == clip.text_fingerprint
