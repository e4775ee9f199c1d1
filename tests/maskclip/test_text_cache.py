"""Text embeddings on disk."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskclip import text_cache
from maskclip.text_cache import PACKED, TextCache, cache_folder, cache_keys

KEYS = cache_keys("tower", ["a {}."], ["cat", "dog", "bird"])
MANY = cache_keys("tower", ["a {}."], [f"name {number}" for number in range(PACKED)])


def embeddings(count: int = 3, keys: list[str] = KEYS) -> dict[str, np.ndarray]:
    return {key: np.full(8, row + 0.5, np.float32) for row, key in enumerate(keys[:count])}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, embedding in expected.items():
        np.testing.assert_array_equal(found[key], embedding)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_process_reads_what_was_written(tmp_path, count):
    TextCache(tmp_path).write(embeddings(count))
    assert_same(TextCache(tmp_path).read(KEYS), embeddings(count))
    assert len(files(tmp_path)) == count  # and nothing left lying beside


def test_many_at_once_are_one_file(tmp_path):
    many = embeddings(PACKED, MANY)
    TextCache(tmp_path).write(many)
    TextCache(tmp_path).write(many)  # a process that did the same
    (path,) = files(tmp_path)
    assert path.suffix == ".pack"
    TextCache(tmp_path).write(embeddings(3))
    assert_same(TextCache(tmp_path).read([*KEYS, *MANY, "f" * 64]), many | embeddings(3))
    assert_same(TextCache(tmp_path).read(MANY[5:7]), {key: many[key] for key in MANY[5:7]})


def test_packs_of_others_are_seen_at_once(tmp_path):
    cache = TextCache(tmp_path)
    assert cache.read(MANY) == {}
    TextCache(tmp_path).write(embeddings(PACKED, MANY))
    assert len(cache.read(MANY)) == PACKED


def test_a_damaged_row_of_a_pack_is_the_only_one_missing(tmp_path):
    many = embeddings(PACKED, MANY)
    TextCache(tmp_path).write(many)
    (path,) = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # in the last row's numbers
    path.write_bytes(content)
    cache = TextCache(tmp_path)
    assert_same(cache.read(MANY), {key: many[key] for key in MANY[:-1]})
    cache.write({MANY[-1]: many[MANY[-1]]})
    assert_same(TextCache(tmp_path).read(MANY), many)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:0],
        lambda content: content[:9],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"x" + content[1:],
        lambda content: content[:20] + bytes([content[20] ^ 1]) + content[21:],  # a key
    ],
)
def test_a_damaged_pack_is_ignored_and_replaced(tmp_path, damage):
    many = embeddings(PACKED, MANY)
    TextCache(tmp_path).write(many)
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    cache = TextCache(tmp_path)
    assert cache.read(MANY) == {}
    cache.write(many)
    assert_same(TextCache(tmp_path).read(MANY), many)
    assert len(files(tmp_path)) == 1


def test_a_pack_that_is_removed_meanwhile_counts_as_missing(tmp_path):
    TextCache(tmp_path).write(embeddings(PACKED, MANY))
    cache = TextCache(tmp_path)
    assert len(cache.read(MANY[:1])) == 1
    (path,) = files(tmp_path)
    path.unlink()
    assert list(cache.read(MANY)) == MANY[:1]  # from memory


def test_keys_depend_on_all_that_matters():
    arguments = [("tower", ["a {}."]), ("other", ["a {}."]), ("tower", ["b {}."])]
    keys = [cache_keys(*some, ["cat"])[0] for some in arguments] + cache_keys(*arguments[0], ["猫"])
    assert len(set(keys)) == 4
    assert cache_keys(*arguments[0], ["cat"]) == keys[:1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:0],
        lambda content: content[:7],
        lambda content: content[:16],
        lambda content: content[:-4],
        lambda content: content + b"\0\0\0\0",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"<html>not an embedding</html>" + content,
    ],
)
def test_damaged_files_are_ignored_and_replaced(tmp_path, damage):
    TextCache(tmp_path).write(embeddings(1))
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    cache = TextCache(tmp_path)
    assert cache.read(KEYS) == {}
    cache.write(embeddings(1))
    assert_same(TextCache(tmp_path).read(KEYS), embeddings(1))


def test_a_file_in_the_place_of_another_is_damage(tmp_path):
    cache = TextCache(tmp_path)
    cache.write(embeddings(2))
    cache._path(KEYS[0]).write_bytes(cache._path(KEYS[1]).read_bytes())
    assert list(TextCache(tmp_path).read(KEYS)) == [KEYS[1]]


def test_without_a_place_to_write_it_works_in_memory(tmp_path, caplog):
    blocked = tmp_path / "a file"
    blocked.write_text("no folder")
    cache = TextCache(blocked / "text")
    with caplog.at_level(logging.WARNING):
        cache.write(embeddings(1))
        cache.write(embeddings(3))
    assert_same(cache.read(KEYS), embeddings(3))
    assert caplog.text.count("not kept on disk") == 1


def test_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(text_cache, "REMEMBERED", 2)
    cache = TextCache(tmp_path)
    for key, embedding in embeddings().items():
        cache.write({key: embedding})
    assert len(cache._memory) <= 2
    assert_same(cache.read(KEYS), embeddings())


def test_the_place_is_the_users_choice(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "text"
    monkeypatch.delenv("MASKCLIP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "maskclip" / "text"


WORKER = """
import importlib.util, sys
import numpy as np

spec = importlib.util.spec_from_file_location("text_cache", sys.argv[1])
text_cache = importlib.util.module_from_spec(spec)
spec.loader.exec_module(text_cache)
keys = text_cache.cache_keys("tower", ["{}"], [str(number) for number in range(140)])
expected = {key: np.full(512, row, np.float32) for row, key in enumerate(keys)}
for _ in range(10):
    cache = text_cache.TextCache(text_cache.Path(sys.argv[2]))
    for key, embedding in cache.read(keys).items():
        assert (embedding == expected[key]).all(), key
    for part in (keys[:40], keys[40:]):  # one small file each, and a pack
        cache.write({key: expected[key] for key in part})
    assert len(text_cache.TextCache(cache.folder).read(keys)) == len(keys)  # never half a file
"""


def test_processes_at_once_never_read_half_a_file(tmp_path):
    command = [sys.executable, "-c", WORKER, text_cache.__file__, str(tmp_path)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    errors = [worker.communicate()[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, "\n".join(errors)
    assert len(files(tmp_path)) == 41
