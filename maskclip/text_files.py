"""What a checkpoint keeps beside its weights of a text tower from Hugging Face.

Such a tower's configuration and tokenizer lie on a hub; a copy of both in the checkpoint's folder
``text`` makes loading independent of it.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maskclip.checkpoint_source import TEXT_FOLDER
from maskclip.clip import MaskClip
from maskclip.packages import PACKAGE
from proposal.configuration import config_to_dict

STORED = f"checkpoint:{TEXT_FOLDER}"  # in a checkpoint's config.json: the folder beside it


def write_clip_config(clip: MaskClip, folder: Path) -> dict[str, Any]:
    """-> the clip section of the checkpoint in ``folder``, to which files are written if need be.

    Text towers with open_clip's own tokenizer, and those of Python packages, need none.
    """
    section = config_to_dict(clip.config)
    text = section["model"].get("text_cfg", {})
    model_name = text.get("hf_model_name") or ""
    tokenizer_name = text.get("hf_tokenizer_name") or model_name
    if not tokenizer_name or tokenizer_name.startswith(PACKAGE):
        return section
    place = folder / TEXT_FOLDER
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".text-") as beside:
        if model_name:
            clip.text.config.save_pretrained(beside)
            text["hf_model_name"] = STORED
        clip.text_encoder.tokenizer.save_pretrained(beside)
        text["hf_tokenizer_name"] = STORED
        for path in Path(beside).iterdir():
            path.replace(place / path.name)
    return section


def find_text_files(section: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The clip section of the checkpoint in ``folder``, with places of files as they are here.

    Raises:
        FileNotFoundError: the files are missing.
    """
    model = section.get("model")
    text = model.get("text_cfg") if isinstance(model, dict) else None
    if not isinstance(text, dict) or STORED not in text.values():
        return section
    place = (folder / TEXT_FOLDER).resolve()
    if not place.is_dir():
        raise FileNotFoundError(
            f"{folder} is not whole: it has no folder {TEXT_FOLDER} with the tokenizer of its "
            "text tower"
        )
    found = {key: str(place) if value == STORED else value for key, value in text.items()}
    return section | {"model": model | {"text_cfg": found}}
