"""Files of weights: every kind that CLIPs come in, and none that could run."""

import os
import pickle
import runpy
import warnings
import zipfile
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskclip.checkpoint import load_clip
from maskclip.clip_models import build_clip
from maskclip.clip_weights import PROMPTS, fill_clip, read_clip_weights
from maskclip.torchscript_weights import is_torchscript, read_torchscript

SMALL = runpy.run_path(str(Path(__file__).with_name("small_clips.py")))
PICKLED = "open_clip_pytorch_model.bin"
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2},
    "text_cfg": {"width": 64, "heads": 1, "layers": 1, "context_length": 24, "vocab_size": 90},
}


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch executed",)


def tiny_clip(seed: int = 0, **settings: object) -> nn.Module:
    torch.manual_seed(seed)
    return open_clip.CLIP(**(TINY | settings)).eval()


@pytest.fixture
def folder(tmp_path) -> tuple[Path, nn.Module]:
    """A folder in open_clip's layout that waits for its weights, and the model they are of."""
    place, model = SMALL["saved_clip"]("openai vit", tmp_path)
    (place / "open_clip_model.safetensors").unlink()
    return place, model


def script(model: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is old
        torch.jit.save(torch.jit.script(model), path)
    return path


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("weights.safetensors", None),
        ("weights.pt", lambda state: state),
        ("weights.bin", lambda state: {"state_dict": state, "epoch": 3, "name": "run"}),
        ("weights.pth", lambda state: {"state_dict": {f"module.{k}": state[k] for k in state}}),
    ],
)
def test_every_kind_of_file_gives_the_same_weights(tmp_path, monkeypatch, name, wrap):
    monkeypatch.chdir(tmp_path)
    state = {key: value.clone() for key, value in tiny_clip().state_dict().items()}
    if wrap is None:
        save_file(state, name)
    else:
        torch.save(wrap(state), name)
    read = read_clip_weights(Path(name))
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)


def test_openais_archives_are_read_without_running_them(tmp_path):
    model = tiny_clip().half()
    path = script(model, tmp_path / "openai.pt")
    assert is_torchscript(path)
    read = read_torchscript(path)
    assert read.keys() == model.state_dict().keys()
    assert all(torch.equal(read[key], value) for key, value in model.state_dict().items())


def test_openais_archives_mean_quick_gelu(folder):
    place, model = folder
    path = script(model, place / PICKLED)
    assert build_clip(str(place)).config.model["quick_gelu"]
    torch.save(read_torchscript(path), path)
    assert not build_clip(str(place)).config.model.get("quick_gelu")


@pytest.mark.parametrize("archive", [False, True])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, monkeypatch, archive):
    monkeypatch.chdir(tmp_path)
    path = Path("weights.pt")
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x/data.pkl", pickle.dumps(Code()))
            file.writestr("x/constants.pkl", b"")
    else:
        torch.save({"visual.conv1.weight": Code()}, path)
    with pytest.raises(
        ValueError, match="weights.pt (holds pickled code|is no archive of weights)"
    ):
        build_clip("ViT-S-32-alt/weights.pt")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.safetensors", b"no", "x.safetensors is damaged"),
        ("x.pt", b"PK", "x.pt is damaged"),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_clip_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_cut_archive_is_one_sentence(tmp_path):
    path = script(tiny_clip(), tmp_path / "x.pt")
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "cut.pt", "w") as cut:
        for name in whole.namelist():
            if not name.endswith("data/3"):
                cut.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match="cut.pt is damaged: .*data/3"):
        read_clip_weights(tmp_path / "cut.pt")


def custom(**changes: object) -> nn.Module:
    torch.manual_seed(9)
    return open_clip.CustomTextCLIP(**(TINY | changes))


def test_a_larger_grid_gets_interpolated_positions():
    model = custom(vision_cfg=TINY["vision_cfg"] | {"image_size": 64})
    state = tiny_clip().state_dict()
    state["visual.positional_embedding"][1:] = torch.arange(16.0)[:, None].expand(16, 64)
    fill_clip(model, state, "x")
    grid = model.visual.positional_embedding[1:, 0].detach().reshape(8, 8)
    assert float(grid.mean()) == pytest.approx(7.5, abs=1e-4)
    assert (grid.diff(dim=0) > 0).all() and (grid.diff(dim=1)[:, 1:-1] > 0).all()
    torch.testing.assert_close(grid, 15 - grid.flip(0, 1))


def test_a_plain_clips_weights_fit_a_model_with_a_bias():
    model = custom(init_logit_bias=-10, nonscalar_logit_scale=True)
    fill_clip(model, tiny_clip().state_dict(), "x")
    assert model.logit_bias.tolist() == [0.0]
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)


def test_what_does_not_fit_is_named():
    state = tiny_clip().state_dict()
    del state["ln_final.weight"]
    with pytest.raises(ValueError, match=r"x does not fit its config: it misses text\.ln_final"):
        fill_clip(custom(), state, "x")


@pytest.mark.parametrize("rows", [1, 16])
@torch.no_grad()
def test_a_mask_adapted_clip_brings_its_prompts(folder, rows):
    place, model = folder
    state = model.state_dict() | {PROMPTS: torch.randn(2, rows, 32)}
    torch.save({"state_dict": {f"module.{key}": state[key] for key in state}}, place / PICKLED)
    clip = build_clip(str(place))
    assert clip.config.prompt_depth == 2
    assert torch.equal(clip.tower.prompts, state[PROMPTS].expand(2, 16, 32))


def test_prompts_for_a_tower_without_patches_are_refused(tmp_path):
    folder, model = SMALL["saved_clip"]("resnet", tmp_path)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    weights[PROMPTS] = torch.zeros(1, 4, 512)
    file = folder / "open_clip_model.safetensors"
    save_file(weights, file)
    with pytest.raises(ValueError, match="class token, got a ModifiedResNet: set prompt_depth"):
        build_clip(str(folder))
    save_file({key: value for key, value in weights.items() if key != PROMPTS}, file)
    with pytest.raises(ValueError, match="class token, got a ModifiedResNet: set prompt_depth"):
        load_clip(str(folder), overrides=["prompt_depth=3"])
