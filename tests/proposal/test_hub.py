"""The real client against a small hub on this machine."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from proposal.hub import explained, fetch

FILES = {"config.json": b'{"a": 1}', "model.safetensors": bytes(range(256)) * 400}
NOWHERE = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"  # nothing listens there


@pytest.fixture
def hub(small_hub):
    small_hub.add("me/model", FILES)
    return small_hub


@pytest.fixture
def impatient(monkeypatch):
    """The client tries again at once."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)


def fails(source="me/model", files=tuple(FILES)) -> str:
    with pytest.raises(OSError) as caught:
        fetch(source, files)
    text = str(caught.value)
    assert "\n" not in text and source.partition("@")[0] in text
    return text


def blobs() -> list[Path]:
    return [path for path in Path(constants.HF_HUB_CACHE).glob("*/blobs/*") if path.is_file()]


def test_files_come_once_and_lie_in_one_folder(hub):
    folder = fetch("me/model", tuple(FILES), ["preprocessor_config.json"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    asked = hub.requests.copy()
    assert fetch("me/model", tuple(FILES)) == folder
    again = {key: count for key, count in (hub.requests - asked).items() if key.startswith("GET")}
    assert not again


def test_a_file_in_a_subfolder_belongs_to_the_same_snapshot(hub):
    hub.repos["me/model"].files["deep/er/x.json"] = b"{}"
    assert (fetch("me/model", ["deep/er/x.json"]) / "deep/er/x.json").read_bytes() == b"{}"


def test_a_revision_is_asked_for(hub):
    commit = hub.repos["me/model"].commit
    assert fetch(f"me/model@{commit}", ["config.json"]).name == commit
    assert "no such revision" in fails("me/model@nowhere", ["config.json"])


def test_a_connection_cut_half_way_goes_on_where_it_was(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # 10 MB, for a smaller file
    hub.repos["me/model"].cut = 50_000
    folder = fetch("me/model", tuple(FILES))
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert hub.ranges == ["bytes=50000-"]


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_stays_cut_leaves_nothing_half_written(hub):
    repo = hub.repos["me/model"]
    repo.cut, repo.always_cut = 50_000, True
    assert "connection broke" in fails(files=["model.safetensors"])
    assert not blobs()
    repo.cut, repo.always_cut = 0, False
    fetch("me/model", tuple(FILES))


def test_a_damaged_file_is_refused_and_fetched_anew(hub):
    hub.repos["me/model"].damaged = True
    assert "SHA-256" in fails()
    hub.repos["me/model"].damaged = False
    folder = fetch("me/model", tuple(FILES))
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_gated_model_says_so_and_opens_to_a_token(hub, monkeypatch):
    hub.repos["me/model"].gated = True
    assert "gated" in fails() and "HF_TOKEN" in fails()
    monkeypatch.setenv("HF_TOKEN", hub.token)
    fetch("me/model", tuple(FILES))
    assert hub.tokens == {hub.token}


def test_a_token_comes_from_the_environment_alone(hub, tmp_path, monkeypatch):
    stored = tmp_path / "token"
    stored.write_text("hf_stored")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(stored))
    fetch("me/model", ["config.json"])
    assert not hub.tokens


def test_unknown_private_and_incomplete_models(hub):
    assert "knows no model" in fails("me/other")
    hub.repos["me/model"].private = True
    assert "private" in fails()
    hub.add("me/model", {"config.json": b"{}"})
    assert "no file model.safetensors" in fails()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_out_of_order(hub, status):
    hub.repos["me/model"].status = status
    assert f"status {status}" in fails()


@pytest.mark.usefixtures("hub")
def test_offline_uses_the_cache_and_names_what_is_missing(monkeypatch):
    folder = fetch("me/model", ["config.json"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("me/model", ["config.json"], ["other.json"]) == folder
    assert "HF_HUB_OFFLINE is set" in fails()


@pytest.mark.usefixtures("hub", "impatient")
def test_no_network(monkeypatch, caplog):
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", NOWHERE)
    assert "cannot be reached" in fails()
    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == [
        "trying for half a minute"
    ]


def test_a_full_disk():
    refused = pytest.raises(OSError, match="the disk is full: me/model could not be stored")
    with refused, explained("me/model"), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")  # the kernel's own ENOSPC


@pytest.mark.usefixtures("hub")
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot be written; set HF_HOME" in fails()


def test_other_errors_pass_as_they_are():
    with pytest.raises(KeyError), explained("me/model"):
        raise KeyError("x")


@pytest.mark.parametrize("source", ["nano", "a/b/c", "", "me/", "../x", "me/model name"])
def test_what_is_no_hub_id(source):
    with pytest.raises(ValueError, match="owner/name"):
        fetch(source, ["config.json"])
