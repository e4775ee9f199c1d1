"""Trains the head that names places of a photo, on label maps and on what DeepLab says."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from maskclip.adaptation.dense_cells import (
    UNNAMED,
    CellBatch,
    Cells,
    fingerprint_cells,
    read_cells,
    read_names,
    read_source_cells,
)
from maskclip.adaptation.dense_config import MAY_CHANGE, DenseTraining
from maskclip.adaptation.parameters import schedule_factor
from maskclip.adaptation.teacher import without_mean
from maskclip.adaptation.training import REPORT
from maskclip.checkpoint import load_clip
from maskclip.checkpoint_source import find_checkpoint, is_checkpoint
from maskclip.clip import MaskClip
from maskclip.clip_folder import save_clip
from maskclip.clip_models import build_clip
from maskclip.json_file import write_json
from maskclip.region_accuracy import region_accuracy
from maskclip.text_files import write_clip_config
from maskclip.unseen_words import fold_noun, read_left_out
from proposal.checkpoint_files import load_strictly, read_config
from proposal.configuration import config_to_dict
from proposal.training_processes import own_device
from proposal.training_record import make_record
from proposal.training_run import Learner, Purpose, run_training

LEAST_SEEN = 0.1  # what a cell counts at least that DeepLab takes for background


class DenseStep(nn.Module):
    """Compares cells with the texts of all nouns, and of DeepLab's classes, which are read once.

    n: cells, K: nouns, R: DeepLab's classes less the background and those left out.
    """

    def __init__(
        self,
        clip: MaskClip,
        cells: Cells,
        config: DenseTraining,
        rows: nn.Linear | None,
        leave_out: Collection[str],
    ) -> None:
        super().__init__()
        self.head = clip.dense_head
        self.config = config.train
        texts = clip.encode_nouns(cells.nouns)  # (K, D)
        taught = without_mean(texts) if config.train.centre_texts else texts
        self.register_buffer("texts", taught, persistent=False)
        self.register_buffer("counts", _balanced(cells.shares(), config.train.balance), False)
        self.rows = rows
        if rows is not None:
            names = config.clip.rows
            kept = [i for i, name in enumerate(names) if fold_noun(name) not in leave_out]
            self.register_buffer("kept", torch.tensor(kept), persistent=False)
            taught = clip.encode_nouns(tuple(names[i] for i in kept))  # (R, D)
            self.register_buffer("row_texts", taught, persistent=False)

    def forward(self, batch: CellBatch) -> dict[str, Tensor]:
        """n cells of this process -> the loss's weighted terms."""
        config, device = self.config, self.texts.device
        cells, whole, nouns = (each.to(device, non_blocking=True) for each in batch)
        embeddings = self.head(cells, whole)  # (n, D)
        logits = config.logit_scale * embeddings @ self.texts.mT  # (n, K)
        # The sum over no named cell is 0, where the mean would be no number
        known = (nouns >= 0).sum().clamp(min=1)
        named = F.cross_entropy(
            logits,
            nouns,
            weight=self.counts,
            ignore_index=UNNAMED,
            label_smoothing=config.label_smoothing,
            reduction="sum",
        )
        losses = {"loss_names": named / known}
        if self.rows is not None:
            losses["loss_rows"] = config.rows_weight * self._rows_loss(cells, whole, embeddings)
        return losses

    def _rows_loss(self, cells: Tensor, whole: Tensor, embeddings: Tensor) -> Tensor:
        """(n, F), (n, F), (n, D) -> (): how far from DeepLab's own answers, among its classes."""
        with torch.no_grad():
            said = self.rows(self.head.read(cells, whole)).softmax(dim=1)[:, 1:]
            said = said[:, self.kept]  # (n, R)
            mass = said.sum(dim=1, keepdim=True)
            said, counts = said / mass.clamp(min=1e-6), mass[:, 0].clamp(min=LEAST_SEEN)
        logits = self.config.rows_scale * embeddings @ self.row_texts.mT  # (n, R)
        apart = F.kl_div(logits.log_softmax(dim=1), said, reduction="none").sum(dim=1)
        return (apart * counts).mean()


def train(
    config: DenseTraining,
    output: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
) -> dict[str, float]:
    """Give the CLIP of ``init`` a dense head, leave it in ``output`` -> what was measured.

    Nothing else of that CLIP changes. ``resume``: go on with what ``output`` holds.

    Raises:
        ValueError: a setting or a file does not fit; or the loss diverged.
        FileNotFoundError: label maps, weights or photos are missing.
        KeyboardInterrupt: stopped by the user; all is saved.
    """
    started, output = time.monotonic(), Path(output)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    torch.manual_seed(config.train.seed)
    unwanted = config.data.leave_out_nouns
    leave_out = read_left_out(unwanted) if unwanted else frozenset()
    clip, rows = _start(config, init)
    cells = read_cells(clip, config, leave_out)
    learned = {name for name in config.clip.rows if fold_noun(name) not in leave_out}
    taught = tuple(sorted({*clip.config.taught, *cells.nouns, *learned}))
    clip.change(replace(clip.config, taught=taught))
    step = DenseStep(clip, cells, config, rows, leave_out).to(clip.device)
    clip.requires_grad_(False)
    learning = [clip.dense_head.norm, clip.dense_head.hidden, clip.dense_head.proj]
    for module in learning:
        module.requires_grad_(True)
    optimizer = AdamW(_groups(learning, config.train.weight_decay), lr=config.train.learning_rate)
    schedule = LambdaLR(optimizer, schedule_factor(config.train))
    purpose = Purpose(
        folder=output,
        record=make_record(config_to_dict(config), fingerprint_cells(config)),
        may_change=MAY_CHANGE,
        batches=partial(cells.batches, config),
        save_model=partial(_save, config, output.name, str(init), clip),
    )
    if comm.is_main_process():
        write_clip_config(clip, output)  # a text tower's files, if it has any
    kept = run_training(
        Learner(step, clip.dense_head, optimizer, schedule),
        config.train.loop(),
        purpose,
        resume=resume,
    )
    clip.dense_head = kept.eval()
    metrics = measure(clip, config)
    if comm.is_main_process():
        seconds = round(time.monotonic() - started)
        count = sum(len(each.label) for each in cells.sources)
        write_json(output / REPORT, {"metrics": metrics, "seconds": seconds, "cells": count})
    return metrics


def evaluate(config: DenseTraining, folder: str | Path) -> dict[str, float]:
    """What a training with this config would measure on the CLIP in a checkpoint, in percent.

    Raises:
        ValueError: the config names nothing to measure on, or the CLIP has no dense head.
    """
    if not config.data.evaluate:
        raise ValueError("--eval-only needs label maps to measure on: set data.evaluate")
    clip = load_clip(str(folder), own_device())
    clip.check_dense()
    return measure(clip, config)


@torch.no_grad()
def measure(clip: MaskClip, config: DenseTraining) -> dict[str, float]:
    """Each of ``data.evaluate``: how many cells get their name among its names, in percent."""
    found = {}
    for source in config.data.evaluate:
        names, cells = read_names(source), read_source_cells(clip, source, config)
        texts, said = clip.encode_nouns(tuple(names)), []
        known = np.flatnonzero(cells.label >= 0)
        for some in np.array_split(known, len(known) // 4096 + 1):
            seen, whole = (
                torch.from_numpy(each.astype(np.float32)).to(clip.device)
                for each in (cells.cells[some], cells.whole[cells.photo[some]])
            )
            said.append((clip.dense_head(seen, whole) @ texts.mT).argmax(dim=1).cpu().numpy())
        scores = region_accuracy(np.concatenate(said), cells.label[known], names)
        found[f"{source.title}/top1"] = round(scores.top1, 2)
        found[f"{source.title}/mean_per_class"] = round(scores.mean_per_class, 2)
    return found


def _start(config: DenseTraining, init: str | Path | None) -> tuple[MaskClip, nn.Linear | None]:
    """The CLIP of ``init`` with its own or a new head, DeepLab's last layer if needed."""
    if init is None:
        raise ValueError("a dense head is added to a CLIP: give its run or checkpoint by --init")
    stored, head = load_clip(str(init)), config.clip
    if not stored.config.photo_context:
        raise ValueError(
            f"the CLIP in {init} reads no whole photos, whose map a dense head needs: train one "
            "with clip.photo_context"
        )
    clip, rows = stored, None
    if stored.dense_head is None:
        if not head.deeplab:
            raise ValueError("a new dense head starts from a DeepLab's: set clip.deeplab")
        clip = build_clip(replace(stored.config, dense_width=head.width))
        fresh = {f"dense_head.{key}": value for key, value in clip.dense_head.state_dict().items()}
        load_strictly(clip, stored.state_dict() | fresh, str(init))
    elif stored.config.dense_width != head.width:
        raise ValueError(
            f"the CLIP in {init} has a dense head {stored.config.dense_width} wide already: set "
            f"clip.width to that, got {head.width}"
        )
    if head.deeplab:
        last = clip.dense_head.load(head.deeplab)
        rows = last if head.rows else None
        if rows is not None and rows.out_features != 1 + len(head.rows):
            raise ValueError(
                f"clip.rows must name the {rows.out_features - 1} classes of {head.deeplab} after "
                f"the background, got {len(head.rows)} names"
            )
    return clip.to(own_device()), rows


def _groups(modules: list[nn.Module], decay: float) -> list[dict]:
    """Gains and biases do not decay."""
    weights = [p for module in modules for p in module.parameters()]
    matrices = [p for p in weights if p.ndim > 1]
    vectors = [p for p in weights if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def _balanced(shares: np.ndarray, balance: float) -> Tensor:
    """(K,) shares of the nouns' cells -> (K,) what each cell counts; 1 on average over cells."""
    counts = np.where(shares > 0, np.maximum(shares, 1e-12) ** -balance, 0.0)
    mean = (counts * shares).sum()
    return torch.from_numpy(counts / mean if mean else counts).float()


def _save(
    config: DenseTraining,
    name: str,
    init: str,
    clip: MaskClip,
    folder: Path,
    head: nn.Module,
    steps: int,
) -> None:
    """Save the CLIP with that head, the running average say, in the place of its own."""
    made = {"stage": "dense", "init": init, "steps": steps, "training": config_to_dict(config)}
    if is_checkpoint(init):  # all but the head is as it was made there
        made["tower"] = read_config(find_checkpoint(init)).get("provenance", {})
    own, clip.dense_head = clip.dense_head, head
    try:
        save_clip(clip, folder, made, name=name)
    finally:
        clip.dense_head = own
