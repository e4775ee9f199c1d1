import numpy as np
import pytest
import torch

from maskclip.adaptation.config import PairSource
from maskclip.adaptation.pair_table import read_table
from maskclip.adaptation.relations import NounRelations
from maskclip.pairs import Pair, write_pairs_folder

EYE = torch.eye(5)


@pytest.fixture
def table(tmp_path):
    """Open: one region is dog and collie. Closed: bear and teddy bear, each its own region."""

    def write(name, pairs):
        rows = []
        for photo, noun in pairs:
            mask = np.zeros((8, 8), bool)
            mask[2:6, 2:6] = True
            rows.append(Pair.from_mask(mask, image=f"{photo}.jpg", noun=noun))
            (tmp_path / f"{photo}.jpg").touch()
        write_pairs_folder(tmp_path / name, rows, images=tmp_path, config={})
        return str(tmp_path / name)

    opened = write("open", [("p", "dog"), ("p", "collie"), ("q", "panda")])
    closed = write("closed", [("r", "bear"), ("s", "teddy bear")])
    table = read_table([PairSource(opened), PairSource(closed, exclusive=True)])
    assert table.nouns == ("bear", "collie", "dog", "panda", "teddy bear")
    return table


def test_nouns_of_one_region_and_close_texts_are_related(table):
    texts = EYE.clone()
    texts[3] = texts[0]  # a panda reads as a bear does
    related = NounRelations(table, texts, 0.9)(torch.arange(5))
    expected = torch.eye(5, dtype=torch.bool)
    for a, b in ((1, 2), (0, 3)):
        expected[a, b] = expected[b, a] = True
    assert torch.equal(related, expected)


def test_a_closed_list_tells_close_texts_apart(table):
    texts = EYE.clone()
    texts[4] = texts[0]
    related = NounRelations(table, texts, 0.9)(torch.arange(5))
    assert not related[0, 4] and related[0, 0] and related[1, 2]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_is_a_part_of_the_whole(table, count):
    relations = NounRelations(table, EYE, 0.9)
    whole = relations(torch.arange(5))
    rows, columns = torch.tensor([2, 2, 4])[:count], torch.tensor([1, 2])
    assert torch.equal(relations(rows, columns), whole[rows][:, columns])
