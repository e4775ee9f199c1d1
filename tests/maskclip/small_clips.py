"""A small random model of each open_clip family, in the layout that open_clip saves for the hub."""

import functools
import json
import sys
from copy import deepcopy
from pathlib import Path

import open_clip
import torch
from open_clip.factory import get_model_config
from safetensors.torch import save_file
from timm.models import is_model, model_entrypoint, register_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    BertConfig,
    M2M100Config,
    MT5Config,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)

WORDS = ["a", "photo", "of", "the", "large", "small", "in", "scene", "this", "is", "there", "."]
WORDS += ["cat", "dog", "sofa", "couch"]
SPECIAL = ["<pad>", "</s>", "<s>", "<cls>", "<unk>"]
VOCABULARY = len(SPECIAL) + len(WORDS)
VIT = {"image_size": 32, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16}
TEXT = {"width": 32, "heads": 2, "layers": 2}
CONTEXT = 20  # tokens, for text towers whose length we choose
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.2}
SIZES |= {"vocab_size": VOCABULARY, "pad_token_id": 0}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
M2M = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2}
M2M |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
M2M |= {"init_std": 0.2}
HF_CONFIGS = {
    "bert": lambda: BertConfig(**SIZES),
    "roberta": lambda: RobertaConfig(**SIZES),
    "xlm-roberta": lambda: XLMRobertaConfig(**SIZES),
    "mt5": lambda: MT5Config(**T5, vocab_size=VOCABULARY, pad_token_id=0),
    "nllb": lambda: M2M100Config(**M2M, vocab_size=VOCABULARY, pad_token_id=0),
}


def tiny_timm(of: str, side: int, **sizes: object) -> str:
    """A small relative of a timm model, registered; its name."""
    name = f"tiny_{of}_{side}"
    if not is_model(name):
        module = model_entrypoint(of).__module__
        known = model_entrypoint(of)

        def build(pretrained: bool = False, **options: object) -> nn.Module:
            return known(pretrained=pretrained, **(sizes | options))

        build.__name__, build.__module__ = name, module
        sys.modules[module].default_cfgs.setdefault(name, sys.modules[module].default_cfgs[of])
        register_model(build)
    return name


def _timm(of: str, side: int, **sizes: object) -> dict:
    return {"timm_model_name": tiny_timm(of, side, **sizes) if sizes else of, "image_size": side}


THIN = {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 128)}
SLIM = {"embed_dim": 64, "depth": 2, "num_heads": 2}
# family -> (a model of the registry, what is smaller in its image tower, in its text tower)
FAMILIES = {
    "openai vit": ("ViT-B-16", VIT, TEXT),
    "quick gelu": ("ViT-B-16-quickgelu", VIT, TEXT),
    "336 pixels": ("ViT-L-14-336", VIT | {"image_size": 48}, TEXT),
    "layer scale": ("ViT-M-16-alt", VIT, TEXT),
    "clipa": ("ViT-L-14-CLIPA", VIT, TEXT | {"vocab_size": VOCABULARY, "context_length": CONTEXT}),
    "metaclip 2": ("ViT-H-14-worldwide", VIT, TEXT | {"vocab_size": VOCABULARY, "eos_id": 1}),
    "roberta text": ("roberta-ViT-B-32", VIT, {"hf": "roberta"}),
    "xlm-roberta text": ("xlm-roberta-base-ViT-B-32", VIT, {"hf": "xlm-roberta"}),
    "bert text": ("roberta-ViT-B-32", VIT, {"hf": "bert", "hf_pooler_type": "cls_pooler"}),
    "mt5 text": ("mt5-base-ViT-B-32", VIT, {"hf": "mt5"}),
    "nllb text": ("nllb-clip-base", VIT, {"hf": "nllb"}),
    "siglip": (
        "ViT-B-16-SigLIP",
        lambda: _timm("vit_base_patch16_siglip_224", 224, **SLIM),
        TEXT | {"vocab_size": VOCABULARY, "context_length": CONTEXT, "width": 64},
    ),
    "siglip 2": (
        "ViT-B-16-SigLIP2",
        lambda: _timm("vit_base_patch16_siglip_224", 224, **SLIM),
        TEXT | {"vocab_size": VOCABULARY, "context_length": CONTEXT, "width": 64},
    ),
    "nllb siglip": (
        "nllb-clip-base-siglip",
        lambda: _timm("vit_base_patch16_siglip_224", 224, **SLIM),
        {"hf": "nllb"},
    ),
    "coca": ("coca_ViT-B-32", VIT | {"attn_pooler_heads": 2}, TEXT | {"context_length": CONTEXT}),
    "coca, class token": ("coca_base", VIT, TEXT | {"context_length": CONTEXT}),
    "coca roberta": ("coca_roberta-ViT-B-32", VIT, {"hf": "roberta"}),
    "eva 1": ("EVA01-g-14", lambda: _timm("eva_giant_patch14_224", 56, img_size=56, **SLIM), TEXT),
    "eva 2": (
        "EVA02-B-16",
        lambda: _timm("eva02_base_patch16_clip_224", 64, img_size=64, **SLIM),
        TEXT,
    ),
    "pe core": (
        "PE-Core-B-16",
        lambda: _timm("vit_pe_core_base_patch16_224", 64, img_size=64, **SLIM),
        TEXT,
    ),
    "resnet": ("RN50", {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}, TEXT),
    "convnext": ("convnext_base", lambda: _timm("test_convnext", 64), TEXT),
    "convnext, mlp": ("convnext_large_d", lambda: _timm("test_convnext", 64), TEXT),
    "swin": (
        "swin_base_patch4_window7_224",
        lambda: _timm("swin_base_patch4_window7_224", 224, embed_dim=16, depths=(1, 1, 1, 1)),
        TEXT,
    ),
    "vit without class token": (
        "vit_medium_patch16_gap_256",
        lambda: _timm("vit_medium_patch16_gap_256", 64, img_size=64, **SLIM),
        TEXT,
    ),
    "relative positions": (
        "vit_relpos_medium_patch16_cls_224",
        lambda: _timm("vit_relpos_medium_patch16_cls_224", 64, img_size=64, **SLIM),
        TEXT,
    ),
    "mobileclip": ("MobileCLIP-S1", lambda: _timm("fastvit_mci0", 64, **THIN), TEXT),
    "mobileclip, hybrid": (
        "MobileCLIP-B",
        lambda: _timm("vit_base_mci_224", 64, img_size=64, depth=1),
        TEXT,
    ),
    "mobileclip 2, vit": (
        "MobileCLIP2-L-14",
        lambda: _timm("vit_large_patch14_clip_224", 56, img_size=56, **SLIM),
        TEXT,
    ),
    "vitamin": ("ViTamin-S", lambda: _timm("vitamin_small_224", 64, img_size=64, depth=1), TEXT),
}
PROMPTABLE = (
    *("openai vit", "quick gelu", "336 pixels", "layer scale", "clipa", "metaclip 2"),
    *("roberta text", "xlm-roberta text", "bert text", "mt5 text", "nllb text"),
    *("coca", "coca, class token", "coca roberta", "eva 1", "eva 2", "pe core"),
    *("mobileclip, hybrid", "mobileclip 2, vit"),
)


def config_of(family: str, text_folder: Path) -> dict:
    """An open_clip configuration; what it needs of Hugging Face goes to ``text_folder``."""
    name, vision, text = FAMILIES[family]
    config = deepcopy(get_model_config(name))
    config["vision_cfg"] |= vision() if callable(vision) else vision
    if config["vision_cfg"].get("timm_proj") == "none":
        config["embed_dim"] = SLIM["embed_dim"]
    config["text_cfg"] |= {key: value for key, value in text.items() if key != "hf"}
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= TEXT | {"context_length": CONTEXT}
    if "hf" in text:
        config["text_cfg"]["hf_model_name"] = str(text_folder)
        config["text_cfg"]["context_length"] = CONTEXT
        HF_CONFIGS[text["hf"]]().save_pretrained(text_folder)
    if config["text_cfg"].get("hf_tokenizer_name"):
        config["text_cfg"]["hf_tokenizer_name"] = str(text_folder)
        word_tokenizer().save_pretrained(text_folder)
    return config


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, an end token, padding to the right."""
    vocabulary = {word: row for row, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>",
        cls_token="<cls>",
        sep_token="</s>",
        unk_token="<unk>",
    )


def reference_model(config: dict) -> nn.Module:
    """What open_clip itself builds of a configuration, with weights that leave their mark."""
    settings = deepcopy(config)
    custom = settings.pop("custom_text", False) or "hf_model_name" in settings["text_cfg"]
    settings["text_cfg"]["hf_model_pretrained"] = False
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    kind = open_clip.CoCa if "multimodal_cfg" in settings else kind
    torch.manual_seed(0)
    model = kind(**settings)
    model.logit_scale.data.fill_(3.25)
    for name, value in model.state_dict().items():
        shut = value.ndim == 1 and value.is_floating_point() and (value.abs() < 0.01).all()
        if shut and not name.endswith(("bias", "running_mean")):
            value.add_(torch.rand_like(value))  # gates and norms that would hide their blocks
    return model.eval()


@functools.cache
def saved_clip(family: str, folder: Path) -> tuple[Path, nn.Module]:
    """A folder in open_clip's own layout with the model that is in it."""
    place = folder / family.replace(" ", "_").replace(",", "")
    place.mkdir(parents=True)
    config = config_of(family, place)
    model = reference_model(config)
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bilinear"}
    content = {"model_cfg": config, "preprocess_cfg": preprocess}
    (place / "open_clip_config.json").write_text(json.dumps(content))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    save_file(weights, place / "open_clip_model.safetensors")
    return place, model
