"""Files at an address (https://, s3://, memory://, ...): fetched into the raw folder; shown without their secrets."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from recsys_lab.words import RecsysLabError

log = logging.getLogger(__name__)

_USER = re.compile(r"(?<=://)[^/?#]*@")
_QUERY = re.compile(r"[?#].*$")


def is_remote(path: str | Path) -> bool:
    return "://" in str(path) and not str(path).startswith("file://")


def shown(path: str | Path) -> str:
    """`path` as it may be written and printed: an address without user name, password, query and fragment.

    A query may hold a token or a signature, so none of it is kept.
    """
    text = str(path)
    return _QUERY.sub("?...", _USER.sub("", text)) if is_remote(text) else text


def without_secrets(text: str, address: str) -> str:
    """An error text of another library, which may quote parts of `address`, without the secrets in it."""
    text = text.replace(address, shown(address))
    secrets = {found.group()[:-1] for found in _USER.finditer(address)}
    secrets |= {part for pair in secrets for part in pair.split(":", 1)}
    query = _QUERY.search(address)
    if query:
        secrets |= {query.group()[1:]} | {part.partition("=")[2] for part in re.split("[&#;]", query.group()[1:])}
    for secret in sorted(secrets | {unquote(s) for s in secrets}, key=len, reverse=True):
        if len(secret) > 2:
            text = text.replace(secret, "...")
    return text


def file_name(path: str | Path) -> str:
    """The last part of a path or address, without query and credentials; an address without a path: its host."""
    if not is_remote(path):
        return Path(str(path).rstrip("/")).name
    parts = urlsplit(str(path))
    return parts.path.rstrip("/").rpartition("/")[2] or (parts.hostname or "files")


def fetch_remote(url: str, folder: Path) -> Path:
    """A local copy of any fsspec address; fetched again when its size, tag or date at the source changed.

    Raises:
        RecsysLabError: when it can't be had and there is no earlier copy.
    """
    import fsspec

    copy = folder / hashlib.sha256(url.encode()).hexdigest()[:8] / file_name(url)
    note = copy.with_name(copy.name + ".version")
    try:
        files, remote = fsspec.core.url_to_fs(url)
        # only a digest of what the server says of the file is kept: it repeats the address, with any password in it
        version = _digest(json.dumps(files.info(remote), sort_keys=True, default=str))
        if copy.exists() and _noted(note) == version:
            return copy
        copy.parent.mkdir(parents=True, exist_ok=True)
        part = copy.with_name(copy.name + ".part")
        files.get_file(remote, str(part))
        os.replace(part, copy)
        note.write_text(version)
    except (OSError, ImportError, ValueError) as error:
        why = without_secrets(str(error), url) or type(error).__name__
        if copy.exists():
            _noted(note)
            log.warning("%s can't be reached (%s); the copy from before is used: %s", shown(url), why, copy)
            return copy
        # without the cause: its text may hold the password, and a traceback would print it
        raise RecsysLabError(f"{shown(url)} can't be read: {why}") from None
    return copy


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _noted(note: Path) -> str:
    """The digest in a note; a note of an older version, which held the text itself, is replaced by its digest."""
    if not note.exists():
        return ""
    text = note.read_text()
    if text.startswith("{"):
        text = _digest(text)
        note.write_text(text)
    return text
