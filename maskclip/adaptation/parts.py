"""Mode ft_mpt: a training in two parts, each a run of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from maskclip.adaptation.config import AdaptConfig
from proposal.training_state import saved_folders

FIRST_PART = "ft"  # folder of the first part's run, in that of the second


def first_of_two(config: AdaptConfig) -> AdaptConfig:
    """Fine-tuning, as if there were no prompts."""
    without = {"prompt_depth": 0, "pixel_prompt": 0.0, "text_context": 0}
    return replace(
        config,
        clip=replace(config.clip, **without),
        train=replace(config.train, mode="ft"),
    )


def second_of_two(config: AdaptConfig) -> AdaptConfig:
    """Prompts alone, on what the first part left; its examples come in another order."""
    train = config.train
    return replace(
        config,
        clip=replace(config.clip, average_with=()),
        train=replace(
            train,
            mode="mpt",
            learning_rate=train.prompt_learning_rate or train.learning_rate,
            steps=train.prompt_steps or train.steps,
            epochs=0.0 if train.prompt_steps else train.epochs,
            seed=train.seed + 1,
        ),
    )


def refuse_used(folder: Path, resume: bool) -> None:
    """Raise a ValueError where another training lies in the folder, before hours are spent."""
    others = saved_folders(folder)
    if others and not (resume and (folder / FIRST_PART).is_dir()):
        raise ValueError(
            f"{folder} holds a training that is not in two parts: choose another --output"
            if resume
            else f"{folder} holds a training: go on with --resume, or choose another --output"
        )
