"""Which nouns are other words for one thing, and so no negatives of each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskclip.adaptation.pair_table import PairTable


class NounRelations(nn.Module):
    """Nouns said of one region, or whose texts are close, unless a closed list tells them apart.

    Looked up for the nouns of a batch: a table of all pairs of 27,000 nouns would take gigabytes.
    N, M: nouns asked about, K: all nouns, D: embedding size.
    """

    def __init__(self, table: PairTable, embeddings: Tensor, synonym_cosine: float) -> None:
        """The pairs, (K, D) unit-length texts, and the cosine above which two are synonyms."""
        super().__init__()
        self.synonym_cosine = synonym_cosine
        self.register_buffer("embeddings", embeddings, persistent=False)  # (K, D)
        together = torch.from_numpy(table.said_together())  # (X, 2)
        codes = (together[:, 0] * len(embeddings) + together[:, 1]).unique()  # sorted
        closed = torch.from_numpy(table.closed_lists())  # (K, lists)
        self.register_buffer("together", codes.to(embeddings.device), persistent=False)
        self.register_buffer("closed", closed.to(embeddings), persistent=False)

    def forward(self, rows: Tensor, columns: Tensor | None = None) -> Tensor:
        """(N,) and (M,) int64 nouns, or all K -> (N, M) bool; a noun is related to itself."""
        if columns is None:
            columns = torch.arange(len(self.embeddings), device=rows.device)
        cosines = self.embeddings[rows] @ self.embeddings[columns].mT  # (N, M)
        codes = rows[:, None] * len(self.embeddings) + columns  # (N, M)
        related = (cosines > self.synonym_cosine) | self._are_together(codes)
        told_apart = self.closed[rows] @ self.closed[columns].mT > 0  # (N, M)
        return (related & ~told_apart) | (rows[:, None] == columns)

    def _are_together(self, codes: Tensor) -> Tensor:
        """(N, M) int64 -> (N, M) bool: whether they are among the codes of nouns said together."""
        if not len(self.together):
            return torch.zeros_like(codes, dtype=torch.bool)
        place = torch.searchsorted(self.together, codes).clamp(max=len(self.together) - 1)
        return self.together[place] == codes
