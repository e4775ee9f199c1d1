"""Random networks with their weights as published checkpoints hold them (SPEC 7), of any shape."""

import torch
from torch import Tensor

from maskclip.clip import MaskClip
from maskclip.clip_models import build_clip
from proposal.configuration import config_from_dict
from proposal.maskformer import MaskFormer, MaskFormerConfig

SWIN = {
    "type": "swin",
    "embed_dim": 16,
    "depths": [1, 2, 1, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 7,
}
RESNET = {
    "type": "resnet-deeplab",
    "depth": 50,
    "stem_out_channels": 16,
    "res2_out_channels": 16,
    "width_per_group": 4,
}
TOWER = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 3}
TEXT = {"width": 64, "heads": 1, "layers": 1, "context_length": 77}
CLIP = {"embed_dim": 24, "quick_gelu": True, "vision_cfg": TOWER, "text_cfg": TEXT}


def random_network(backbone: dict, **sizes: object) -> MaskFormer:
    """A small proposal network in evaluation mode; batch norms have statistics of their own."""
    small = {"hidden_dim": 32, "dim_feedforward": 48, "conv_dim": 32, "mask_dim": 16}
    small |= {"num_queries": 7, "nheads": 4, "dec_layers": 2, "class_hidden_dim": 40}
    values = {**small, "embed_dim": 24, "short_side": 64, "max_size": 256, **sizes}
    values |= {"backbone": backbone, "classifier": "text", "published_rounding": True}
    network = MaskFormer(config_from_dict(MaskFormerConfig, values, "test")).eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(("running_mean", "norm.bias", "in_proj_bias", "out_proj.bias")):
                value.uniform_(-0.5, 0.5)
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
    return network


def random_clip(prompts: int, model: dict | None = None) -> MaskClip:
    from maskclip.clip_config import ClipConfig

    return build_clip(ClipConfig(name="random", model=model or CLIP, prompt_depth=prompts))


def published_network(network: MaskFormer) -> dict[str, Tensor]:
    """What SPEC 7 calls the weights, written down once more."""
    state = {}
    for name, value in network.state_dict().items():
        part, _, rest = name.partition(".")
        head = "sem_seg_head.predictor."
        if part == "backbone":
            state[f"backbone.{rest.removeprefix('body.')}"] = value
        elif part == "pixel_decoder":
            state[f"sem_seg_head.{name}"] = value
        elif part in ("decoder", "encoder"):
            state[f"{head}transformer.{name}"] = value
        elif part == "no_object":
            state["clip_adapter.non_object_embedding"] = value[None]
        elif part != "training_text_embeddings":
            state[f"{head}{name}"] = value
    return state


def published_towers(clip: MaskClip, prefix: str = "clip_adapter.clip_model.") -> dict[str, Tensor]:
    state = {f"{prefix}{key}": value for key, value in clip.text.state_dict().items()}
    state |= {f"{prefix}visual.{k}": v for k, v in clip.tower.visual.state_dict().items()}
    if clip.tower.prompts is not None:
        state[f"{prefix}visual.mask_embedding"] = clip.tower.prompts.detach()
    state[f"{prefix}logit_scale"] = clip.log_logit_scale.detach()
    return state


def published_state(network: MaskFormer, clip: MaskClip) -> dict[str, Tensor]:
    """The whole checkpoint's ``model``, with what else lies in published ones."""
    state = {**published_network(network), **published_towers(clip)}
    mean, std = (
        (255 * torch.tensor(v)).view(1, 3, 1, 1) for v in (clip.config.mean, clip.config.std)
    )
    state |= {"clip_adapter.pixel_mean": mean, "clip_adapter.pixel_std": std}
    return {**state, "criterion.empty_weight": torch.ones(9)}
