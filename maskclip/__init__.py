"""Stage 2, what things are: mask-adapted CLIP with the segmentor that joins both stages."""
