"""The paper's ablation in small: trainings from a recipe, measured alike, compared with it."""
