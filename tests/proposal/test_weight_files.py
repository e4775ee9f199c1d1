import argparse
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from proposal.weight_files import read_weights

STATE = {"a.weight": torch.arange(3.0), "b": torch.ones(2, 2)}


class Code:
    """What a hostile file would hold."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "stored",
    [
        STATE,
        {"model": STATE, "optimizer": {"state": {0: torch.zeros(1)}}, "iteration": 9},
        {"state_dict": {f"module.{k}": v for k, v in STATE.items()}, "epoch": 1},
        {"model": STATE, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5)},
        {"model": STATE, "curve": np.zeros(3), "name": None},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_found_wherever_trainers_put_them(stored, zipped, tmp_path):
    torch.save(stored, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    weights = read_weights(tmp_path / "x.pth")
    assert weights.keys() == STATE.keys()
    assert all(torch.equal(weights[key], STATE[key]) for key in STATE)


def test_safetensors_are_read_too(tmp_path):
    save_file(STATE, tmp_path / "x.safetensors")
    assert torch.equal(read_weights(tmp_path / "x.safetensors")["b"], STATE["b"])


def test_a_prefix_of_some_names_is_part_of_them(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "x.pth")
    assert set(read_weights(tmp_path / "x.pth")) == {"module.a", "b"}


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_not_executed(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": STATE, "x": Code()}, "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"x.pth holds pickled code \(posix.mkdir\), which is"):
        read_weights("x.pth")
    (tmp_path / "y.pth").write_bytes(pickle.dumps({"model": STATE, "x": Code()}))
    with pytest.raises(ValueError, match="no PyTorch checkpoint"):
        read_weights("y.pth")
    assert not (tmp_path / "executed").exists()


def test_whole_modules_are_code(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"code \(torch.nn.modules.linear.Linear\)"):
        read_weights(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_programs_are_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="is a TorchScript archive, which is a program"):
        read_weights(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\n<!DOCTYPE html><html>Quota exceeded</html>", "is a web page, not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"hello world", "no PyTorch checkpoint: get it again"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "no PyTorch checkpoint: get it again"),
    ],
)
def test_what_people_have_instead_is_told(content, said, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_weights(tmp_path / "x.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_truncated_files_are_told(zipped, share, tmp_path):
    path = tmp_path / "x.pth"
    state = {"a": torch.randn(5000)}
    torch.save({"model": state}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="is damaged, truncated or no PyTorch checkpoint"):
        read_weights(path)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ([torch.ones(1)], "holds no weights: .* got a list"),
        ({"model": 5, "epoch": 1}, "holds no weights: .* got the keys model, epoch"),
        ({}, "got the keys none"),
        ({"a": torch.tensor([1.0, torch.inf])}, "the weight a holds NaN or infinity"),
    ],
)
def test_files_without_weights_are_refused(stored, said, tmp_path):
    torch.save(stored, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=said):
        read_weights(tmp_path / "x.pth")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_weights(tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_weights(tmp_path)
