"""Random models of every supported kind, small enough for tests, saved as transformers saves them.

Their inputs are 64 pixels wide; each has at most 0.5 M parameters.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers as tf
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn

TWO_EDGES = {"shortest_edge": 64, "longest_edge": 96}
SQUARE = {"height": 64, "width": 64}
LEVELS = ["stage1", "stage2", "stage3", "stage4"]
SWIN = {
    **{"image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
    **{"window_size": 4, "out_features": LEVELS},
}
SMALL = {
    **{"encoder_feedforward_dim": 32, "dim_feedforward": 32, "encoder_layers": 1},
    **{"decoder_layers": 2, "num_attention_heads": 2, "num_queries": 7, "num_labels": 5},
}
VIT = {
    **{"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 64},
    **{"patch_size": 8, "num_blocks": 2, "num_queries": 7, "num_register_tokens": 2},
    **{"num_labels": 5, "intermediate_size": 32},
}
DECODER = {
    **{"hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"iou_head_hidden_dim": 16},
}
ENCODER = {
    **{"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "mlp_dim": 16},
    **{"num_attention_heads": 2, "image_size": 64, "patch_size": 4, "window_size": 4},
    **{"global_attn_indexes": [1], "num_pos_feats": 8},
}
PYRAMID = {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 16}
PROMPTS = {"hidden_size": 16, "image_size": 64, "patch_size": 16}
MEMORY = {  # of models that follow objects through videos
    **{"memory_attention_hidden_size": 16, "memory_attention_num_layers": 1, "image_size": 64},
    **{"memory_attention_rope_feat_sizes": [4, 4], "memory_encoder_hidden_size": 16},
    **{"memory_encoder_output_channels": 16, "mask_downsampler_embed_dim": 16},
    **{"memory_fuser_embed_dim": 16, "memory_fuser_intermediate_dim": 16},
    **{"memory_fuser_num_layers": 1},
}
RESAMPLER = {  # EdgeTAM's
    **{"perceiver_resampler_hidden_size": 16, "perceiver_resampler_mlp_intermediate_size": 16},
    **{"perceiver_resampler_num_latents": 4, "perceiver_resampler_num_latents_2d": 4},
    **{"perceiver_resampler_attention_head_dim": 8, "perceiver_resampler_num_attention_heads": 1},
    **{"perceiver_resampler_num_layers": 1, "memory_attention_mlp_hidden_size": 16},
}


def save_tiny(kind: str, folder: Path) -> Path:
    """A model of this kind with random weights, and its processor, in ``folder``."""
    tf.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    network, processor = BUILDERS[kind]()
    if kind not in ("eomt", "eomt_windows", "eomt_dinov3"):
        spread(network)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    if kind == "oneformer":
        save_tokenizer(folder)
    return folder


def spread(network: nn.Module) -> None:
    """Larger weights, so that queries and points do not all say the same."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.add_(0.1 * torch.randn_like(weight))
            if "output_hypernetworks_mlps" in name or "iou_prediction_head" in name:
                weight.mul_(3)


def save_tokenizer(folder: Path) -> None:
    """CLIP's, with single letters only."""
    names = ["<|startoftext|>", "<|endoftext|>"]
    names += [letter + end for letter in sorted(ByteLevel.alphabet()) for end in ("", "</w>")]
    (folder / "vocab.json").write_text(json.dumps({name: row for row, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def maskformer():
    backbone = tf.MaskFormerSwinConfig(**SWIN)
    decoder = tf.DetrConfig(
        **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 7},
        **{"encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
        backbone_config=tf.ResNetConfig(hidden_sizes=[8] * 4, depths=[1] * 4, embedding_size=8),
    )
    config = tf.MaskFormerConfig(
        backbone_config=backbone,
        decoder_config=decoder,
        **{"fpn_feature_size": 32, "mask_feature_size": 16, "num_labels": 5},
    )
    network = tf.MaskFormerForInstanceSegmentation(config)
    return network, tf.MaskFormerImageProcessor(size=TWO_EDGES, size_divisor=32)


def mask2former():
    sizes = {"feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32}
    config = tf.Mask2FormerConfig(backbone_config=tf.SwinConfig(**SWIN), **sizes, **SMALL)
    network = tf.Mask2FormerForUniversalSegmentation(config)
    return network, tf.Mask2FormerImageProcessor(size=TWO_EDGES, size_divisor=32)


def oneformer():
    text = {"text_encoder_width": 64, "text_encoder_num_layers": 1, "text_encoder_vocab_size": 520}
    sizes = {"hidden_dim": 32, "mask_dim": 32, "conv_dim": 32, "text_encoder_n_ctx": 4}
    config = tf.OneFormerConfig(
        backbone_config=tf.SwinConfig(**SWIN), **text, **sizes, **SMALL, is_training=True
    )
    network = tf.OneFormerForUniversalSegmentation(config)
    processor = tf.OneFormerImageProcessor(size=TWO_EDGES)
    processor.class_info_file = "ade20k_panoptic.json"  # lies on the hub; nobody needs it
    return network, processor


def eomt(windows: bool = False):
    edges = {"shortest_edge": 64, "longest_edge": None if windows else 64}
    network = tf.EomtForUniversalSegmentation(tf.EomtConfig(**VIT))
    return network, tf.EomtImageProcessor(size=edges, do_pad=not windows, do_split_image=windows)


def eomt_dinov3():
    network = tf.EomtDinov3ForUniversalSegmentation(tf.EomtDinov3Config(**VIT))
    return network, tf.EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64})


def sam_processor():
    edge = {"longest_edge": 64}
    return tf.SamImageProcessor(size=edge, pad_size=SQUARE, mask_size=edge, mask_pad_size=SQUARE)


def sam():
    prompts = tf.SamPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=4)
    config = tf.SamConfig(
        vision_config=tf.SamVisionConfig(**ENCODER),
        prompt_encoder_config=prompts,
        mask_decoder_config=tf.SamMaskDecoderConfig(**DECODER),
    )
    return tf.SamModel(config), sam_processor()


def sam_hq():
    prompts = tf.SamHQPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=4)
    config = tf.SamHQConfig(
        vision_config=tf.SamHQVisionConfig(**ENCODER),
        prompt_encoder_config=prompts,
        mask_decoder_config=tf.SamHQMaskDecoderConfig(**DECODER, vit_dim=16),
    )
    return tf.SamHQModel(config), sam_processor()


def sam2_parts():
    hiera = tf.Sam2HieraDetConfig(
        **{"hidden_size": 8, "num_attention_heads": 1, "image_size": [64, 64]},
        **{"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64]},
        **{"num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 2, 4, 2]},
        **{"global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4]},
    )
    vision = tf.Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=[64, 32, 16, 8], **PYRAMID
    )
    return vision, tf.Sam2ImageProcessor(size=SQUARE)


def sam2():
    vision, processor = sam2_parts()
    config = tf.Sam2Config(
        vision_config=vision,
        prompt_encoder_config=tf.Sam2PromptEncoderConfig(**PROMPTS),
        mask_decoder_config=tf.Sam2MaskDecoderConfig(**DECODER),
    )
    return tf.Sam2Model(config), processor


def sam2_video():
    """As the published SAM 2 are saved: with the memory that follows objects through videos."""
    vision, processor = sam2_parts()
    config = tf.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=tf.Sam2VideoPromptEncoderConfig(**PROMPTS),
        mask_decoder_config=tf.Sam2VideoMaskDecoderConfig(**DECODER),
        memory_attention_feed_forward_hidden_size=16,
        **MEMORY,
    )
    return tf.Sam2VideoModel(config), processor


def edgetam():
    trunk = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    vision = tf.EdgeTamVisionConfig(
        backbone_config=tf.TimmWrapperConfig(architecture="test_convnext", model_args=trunk),
        backbone_channel_list=[64, 48, 32, 24],
        **PYRAMID,
    )
    config = tf.EdgeTamConfig(
        vision_config=vision,
        prompt_encoder_config=tf.EdgeTamPromptEncoderConfig(**PROMPTS),
        mask_decoder_config=tf.EdgeTamMaskDecoderConfig(**DECODER),
    )
    return tf.EdgeTamModel(config), tf.Sam2ImageProcessor(size=SQUARE)


def edgetam_video():
    image_model, processor = edgetam()
    config = tf.EdgeTamVideoConfig(
        vision_config=image_model.config.vision_config,
        prompt_encoder_config=tf.EdgeTamVideoPromptEncoderConfig(**PROMPTS),
        mask_decoder_config=tf.EdgeTamVideoMaskDecoderConfig(**DECODER),
        **(MEMORY | RESAMPLER),
    )
    return tf.EdgeTamVideoModel(config), processor


def sam3_tracker():
    vit = tf.Sam3ViTConfig(
        **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "image_size": 64},
        **{"num_attention_heads": 2, "patch_size": 16, "window_size": 2, "pretrain_image_size": 32},
        global_attn_indexes=[1],
    )
    vision = tf.Sam3VisionConfig(backbone_config=vit, scale_factors=[4.0, 2.0, 1.0], **PYRAMID)
    config = tf.Sam3TrackerConfig(
        vision_config=vision,
        prompt_encoder_config=tf.Sam3TrackerPromptEncoderConfig(**PROMPTS),
        mask_decoder_config=tf.Sam3TrackerMaskDecoderConfig(**DECODER),
    )
    return tf.Sam3TrackerModel(config), tf.Sam3ImageProcessor(size=SQUARE)


def sam3_tracker_video():
    image_model, processor = sam3_tracker()
    config = tf.Sam3TrackerVideoConfig(
        vision_config=image_model.config.vision_config,
        prompt_encoder_config=tf.Sam3TrackerVideoPromptEncoderConfig(**PROMPTS),
        mask_decoder_config=tf.Sam3TrackerVideoMaskDecoderConfig(**DECODER),
        memory_attention_feed_forward_hidden_size=16,
        **MEMORY,
    )
    return tf.Sam3TrackerVideoModel(config), processor


BUILDERS = {
    **{"maskformer": maskformer, "mask2former": mask2former, "oneformer": oneformer},
    **{"eomt": eomt, "eomt_windows": lambda: eomt(windows=True), "eomt_dinov3": eomt_dinov3},
    **{"sam": sam, "sam_hq": sam_hq, "sam2": sam2, "sam2_video": sam2_video},
    **{"edgetam": edgetam, "edgetam_video": edgetam_video},
    **{"sam3_tracker": sam3_tracker, "sam3_tracker_video": sam3_tracker_video},
}
