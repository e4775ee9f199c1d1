"""Checkpoint folders published on a hub."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants

from maskclip.checkpoint_source import TEXT_FILES
from proposal.checkpoint_files import CONFIG_NAME, WEIGHTS_NAME
from proposal.hub import HUB_ID, explained, token

CARD = "README.md"
OFFICIAL = "https://huggingface.co"
_LOG = logging.getLogger(__name__)


def publish(folder: Path, hub_id: str, *, private: bool, message: str) -> str:
    """Upload a checkpoint folder, with a card where there is none -> its address.

    Raises:
        ValueError: ``hub_id`` is not owner/name, or there is no token.
        OSError: the hub does not take it (one sentence).
    """
    if not HUB_ID.fullmatch(hub_id):
        raise ValueError(f"a model is published as owner/name, got {hub_id!r}")
    secret = token()
    if not secret:
        raise ValueError(f"publishing {hub_id} needs a token that may write: set HF_TOKEN to one")
    api = HfApi(token=secret)
    with explained(hub_id):
        api.create_repo(hub_id, private=private, exist_ok=True)
        with _plain_uploads(constants.ENDPOINT != OFFICIAL):
            _upload(api, folder, hub_id, message)
    _add_card(api, folder, hub_id)
    return f"{constants.ENDPOINT}/{hub_id}"


def model_card(folder: Path, hub_id: str) -> str:
    """The card of a checkpoint folder: licence, how to use it, how it was made."""
    config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    provenance = config.get("provenance", {})
    licence = str(provenance.get("license", "")).lower() or "other"
    made = json.dumps(provenance, indent=2, ensure_ascii=False)
    return f"""---
library_name: maskclip
pipeline_tag: image-segmentation
license: {licence}
tags: [open-vocabulary, semantic-segmentation]
---
# {config.get("name") or hub_id}

An open-vocabulary segmentation model for maskclip: a photo and any list of names in, a name for every pixel out.

```python
from maskclip import Segmentor

segmentor = Segmentor.from_pretrained("{hub_id}")
segmentor.segment("photo.jpg", ["cat", "sofa|couch", "floor"]).draw().save("named.png")
```

How it was made:

```json
{made}
```
"""  # noqa: E501


def _upload(api: HfApi, folder: Path, hub_id: str, message: str) -> None:
    files = [CONFIG_NAME, WEIGHTS_NAME, *TEXT_FILES]
    api.upload_folder(
        repo_id=hub_id, folder_path=folder, allow_patterns=files, commit_message=message
    )


def _add_card(api: HfApi, folder: Path, hub_id: str) -> None:
    """The model is there already: a hub that minds the card does not undo that."""
    try:
        if not api.file_exists(hub_id, CARD):
            card = model_card(folder, hub_id).encode()
            api.upload_file(
                path_or_fileobj=card,
                path_in_repo=CARD,
                repo_id=hub_id,
                commit_message="Add a model card",
            )
    except (OSError, ValueError, httpx2.HTTPError) as error:
        reason = " ".join(str(error).split())[:200]
        _LOG.warning("%s is published, but its card could not be added: %s", hub_id, reason)


@contextmanager
def _plain_uploads(wanted: bool) -> Iterator[None]:
    """Without Xet, which only the official hub has; its client asks others for minutes."""
    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = before or wanted
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before
