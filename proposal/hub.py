"""Files from a hub: the shared cache is used, fresh files are verified, failures are one sentence.

The client is ``huggingface_hub``; its environment variables count: ``HF_ENDPOINT``, ``HF_HOME``
(where the cache is), ``HF_HUB_OFFLINE``, ``HF_TOKEN`` (for private and gated models; tokens are
taken from nowhere else).
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import httpx2
from huggingface_hub import constants, errors, hf_hub_download

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # owner/name
_SHA256 = re.compile(
    r"[0-9a-f]{64}"
)  # what the cache calls a large file; small ones have 40 digits
_CLOCK_SKEW = 2.0  # seconds that the clock of the cache's disk may be behind
_VERIFIED: set[tuple[Path, int]] = set()  # not again where one fetch lies inside another
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_LOG = logging.getLogger(__name__)
_CLIENT_LOG = logging.getLogger("huggingface_hub.utils._http")  # a line for every further attempt
_UNREACHABLE = (httpx2.ConnectError, httpx2.TimeoutException, httpx2.ProxyError, ConnectionError)


def fetch(
    source: str, files: Sequence[str], optional: Sequence[str] = (), *, revision: str = ""
) -> Path:
    """Hub id (``owner/name`` or ``owner/name@revision``) -> the folder with its ``files``.

    What the cache holds is not fetched again. Those of ``optional`` come too, where they exist.

    Raises:
        ValueError: ``source`` is no hub id.
        OSError: the hub does not give a file, or the disk does not take it.
    """
    hub_id, _, wanted = source.partition("@")
    wanted = revision or wanted or None
    if not HUB_ID.fullmatch(hub_id):
        raise ValueError(f"a hub id must look like owner/name or owner/name@revision, got {source}")
    with explained(source):
        found = [_download(hub_id, file, wanted) for file in files]
        if len({path.parent for path in found}) > 1:  # somebody pushed between two files
            found = [_download(hub_id, file, wanted) for file in files]
        for file in optional:
            try:
                _download(hub_id, file, wanted)
            except errors.EntryNotFoundError:
                continue
    # A file may lie in a subfolder: the first one tells how far up the snapshot begins.
    return found[0].parents[len(Path(files[0]).parts) - 1]


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Around anything that may fetch ``what``: verifies fresh files and words what goes wrong.

    Raises:
        OSError: one sentence on what went wrong and what to do; other errors pass as they are.
    """
    start = time.time()
    try:
        with _told_once():
            yield
    except Exception as error:
        _refuse_damaged(what, start)  # a damaged file may be why it failed
        sentence = _sentence(what, error)
        if sentence is None:
            raise
        raise OSError(sentence) from error
    _refuse_damaged(what, start)


@contextmanager
def _told_once() -> Iterator[None]:
    """Say once, in place of the client's ten lines, that it tries again."""
    said: list[str] = []

    def replace(record: logging.LogRecord) -> bool:
        if not said:
            said.append(record.getMessage())
            _LOG.warning("%s does not answer: trying for half a minute", constants.ENDPOINT)
        return False

    _CLIENT_LOG.addFilter(replace)
    try:
        yield
    finally:
        _CLIENT_LOG.removeFilter(replace)


def token() -> str | bool:
    """The user's token from the environment; False where there is none."""
    return os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or False


def _download(hub_id: str, file: str, revision: str | None) -> Path:
    return Path(hf_hub_download(hub_id, file, revision=revision, token=token()))


def _refuse_damaged(what: str, since: float) -> None:
    """Check what came into the cache: the client compares sizes, not contents."""
    for blob in Path(constants.HF_HUB_CACHE).glob("*/blobs/*"):
        if not _SHA256.fullmatch(blob.name):
            continue
        written = blob.stat().st_mtime_ns
        if written < (since - _CLOCK_SKEW) * 1e9 or (blob, written) in _VERIFIED:
            continue
        with blob.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != blob.name:
            blob.unlink()
            raise OSError(
                f"what came for {what} is damaged (SHA-256 {digest[:12]}…, the hub says "
                f"{blob.name[:12]}…): it was removed, try again"
            )
        _VERIFIED.add((blob, written))


def _sentence(what: str, error: BaseException) -> str | None:
    """Why ``what`` did not come, in one sentence; None where it is not about fetching at all."""
    chain = list(_chain(error))
    return _disk_sentence(what, chain) or _refusal_sentence(what, chain) or _network(what, chain)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error with all that caused it."""
    while error is not None:
        yield error
        reason = getattr(error, "reason", None)  # urllib wraps the real one
        error = error.__cause__ or (reason if isinstance(reason, BaseException) else None)


def _first(chain: list[BaseException], kinds: type | tuple[type, ...]) -> BaseException | None:
    return next((each for each in chain if isinstance(each, kinds)), None)


def _disk_sentence(what: str, chain: list[BaseException]) -> str | None:
    for each in chain:
        if isinstance(each, OSError) and each.errno in _FULL:
            return (
                f"{_FULL[each.errno]}: {what} could not be stored in {constants.HF_HUB_CACHE}; "
                "free some space, or set HF_HOME to a folder on another disk"
            )
    for each in chain:
        if not isinstance(each, OSError) or each.errno not in _UNWRITABLE:
            continue
        place = each.filename or constants.HF_HUB_CACHE
        return f"{what} could not be stored: {place} cannot be written; set HF_HOME to another one"
    return None


def _refusal_sentence(what: str, chain: list[BaseException]) -> str | None:
    """The hub was asked, and said no."""
    place = constants.ENDPOINT
    if _first(chain, errors.GatedRepoError):
        return (
            f"{what} is gated: accept its terms on its page at {place} and set HF_TOKEN to a token "
            "of the account that did"
        )
    if _first(chain, errors.RepositoryNotFoundError):
        return (
            f"the hub ({place}) knows no model {what}, or it is private: check the id; for a "
            "private one set HF_TOKEN"
        )
    if _first(chain, errors.RevisionNotFoundError):
        return f"{what} has no such revision: check what stands after the @"
    missing = _first(chain, errors.EntryNotFoundError)
    if missing is not None and not isinstance(missing, errors.LocalEntryNotFoundError):
        asked = getattr(getattr(missing, "response", None), "url", "")
        return f"{what} has no file {Path(str(asked)).name}: it is not a model of the kind expected"
    refused = _first(chain, errors.HfHubHTTPError)
    status = getattr(getattr(refused, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the hub ({place}) refuses access to {what} ({status}): check HF_TOKEN"
    if status is not None:
        return f"the hub ({place}) could not give {what} (status {status}): try again later"
    return None


def _network(what: str, chain: list[BaseException]) -> str | None:
    """The hub could not be asked, or broke off."""
    place = constants.ENDPOINT
    if _first(chain, errors.OfflineModeIsEnabled) or (
        constants.HF_HUB_OFFLINE and _first(chain, errors.LocalEntryNotFoundError)
    ):
        return (
            f"{what} is not in the cache {constants.HF_HUB_CACHE} and HF_HUB_OFFLINE is set: "
            "unset it, or fetch the model once with a network"
        )
    if any("Consistency check failed" in str(each) for each in chain) or _first(
        chain, httpx2.RemoteProtocolError
    ):
        return f"the connection broke while {what} was fetched from {place}: try again"
    if any("SHA256" in str(each) for each in chain):  # open_clip's own loader
        return f"what came for {what} is damaged (its SHA-256 is not the one expected): try again"
    if _first(chain, (*_UNREACHABLE, URLError)):
        return (
            f"the hub ({place}) cannot be reached for {what}: check the network, or give a folder "
            "that is already here"
        )
    if _first(chain, errors.LocalEntryNotFoundError):
        return f"{what} is neither in the cache nor to be had from {place}: check the network"
    return None
