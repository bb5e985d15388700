"""Fetching one file from its publisher: checked, resumed, and never left half-written under its real name."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys_lab.words import RecsysLabError

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a server to answer at all: a publisher that can't be reached should be known soon."""
READ_TIMEOUT = 30.0
"""Seconds without a single byte before a started transfer counts as cut."""
ATTEMPTS = 3
"""Times that a cut transfer is taken up again before giving up; a server that can't be reached is not asked twice."""
CHUNK = 1 << 14
"""Bytes written at once; a cut loses less than this of what had come."""


class DownloadError(RecsysLabError):
    """A file could not be had. The text says what was tried and where the user can put the file by hand."""


class ChecksumError(DownloadError):
    """A file is not the one that its publisher describes."""


class _CutError(Exception):
    """The connection broke before the file was whole."""


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's bytes as they are on disk."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


def download(urls: str | Sequence[str], path: Path, checksum: str | None = None, progress: bool = True) -> Path:
    """Fetch `path` from the first of `urls` that has it.

    The bytes arrive in `<path>.part`; a later call takes up where a cut one stopped (by an HTTP range request), and
    only a whole file with the right checksum is renamed to `path`.

    Args:
        urls: http(s) addresses of the same file, tried in this order.
        path: where the file goes. If it is there already it is used, after the checksum.
        checksum: `"sha256:<hex>"` or `"md5:<hex>"` as its publisher (or a well-known loader) states it.
        progress: show a bar on the terminal (never in a log file).

    Raises:
        DownloadError: when no address answers, the connection is cut again and again, or the file is not the
            published one (`ChecksumError`); the text names every address tried.
    """
    import pooch  # here, not above: it costs a fifth of a second that only a download should pay

    urls = [urls] if isinstance(urls, str) else list(urls)
    path.parent.mkdir(parents=True, exist_ok=True)
    chatter = pooch.get_logger()  # its "Downloading data from ..." lines say what ours say
    level = chatter.level
    chatter.setLevel(logging.WARNING)
    failures, changed = [], False
    for url in urls:
        try:
            if not path.exists():
                log.info("downloading %s to %s", url, path)
            pooch.retrieve(
                url, known_hash=checksum, fname=path.name, path=path.parent, downloader=_Downloader(path, progress)
            )
            return path
        except (DownloadError, OSError) as error:
            failures.append(f"{url}: {error}")
        except ValueError as error:  # pooch: the hash of a whole file does not match; it has removed the file
            changed = True
            failures.append(f"{url}: not the published file, so it was not kept. {error}")
        finally:
            chatter.setLevel(level)
    tried = "\n".join(f"  - {line}" for line in failures)
    kind = ChecksumError if changed else DownloadError
    raise kind(f"{path.name} could not be downloaded. Tried:\n{tried}\nOr put the file at {path.resolve()} yourself")


class _Downloader:
    """What pooch calls to move the bytes: pooch checks and renames, this resumes."""

    def __init__(self, path: Path, progress: bool) -> None:
        self.part = path.with_name(path.name + ".part")
        self.tag = path.with_name(path.name + ".part.etag")  # says which version of the file the part belongs to
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> bool | None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._transfer(url)
                break
            except _CutError as cut:
                if attempt == ATTEMPTS:
                    raise DownloadError(
                        f"the connection was cut {ATTEMPTS} times ({cut}); {self._have():,} bytes are kept in "
                        f"{self.part} and the next call goes on from there"
                    ) from cut
                log.warning("connection cut (%s), taking it up again", cut)
        self.part.replace(output_file)
        self.tag.unlink(missing_ok=True)
        return None

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _transfer(self, url: str) -> None:
        import requests
        from tqdm import tqdm

        have = self._have() if self.tag.exists() else 0
        headers = {"Accept-Encoding": "identity"}  # the bytes of the file, so that sizes and ranges mean what they say
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self.tag.read_text()}
        try:
            response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT))
        except requests.RequestException as error:
            raise DownloadError(f"can't be reached ({_reason(error)})") from error
        with response:
            if response.status_code == 416:  # the part is not shorter than the file: begin again
                self.part.unlink(missing_ok=True)
                raise _CutError("the partial file did not fit")
            if response.status_code not in (200, 206):
                raise DownloadError(f"the server answered {response.status_code} {response.reason}")
            resumed = response.status_code == 206
            have = have if resumed else 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length is not None else None
            tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
            if tag and not tag.startswith("W/"):  # a weak tag can't vouch for bytes
                self.tag.write_text(tag)
            else:
                self.tag.unlink(missing_ok=True)
            bar = tqdm(
                total=total, initial=have, unit="B", unit_scale=True, desc=self.part.stem,
                disable=None if self.progress else True,
            )  # fmt: skip
            try:
                with self.part.open("ab" if resumed else "wb") as out, bar:
                    for chunk in response.iter_content(CHUNK):
                        out.write(chunk)
                        bar.update(len(chunk))
            except requests.RequestException as error:
                raise _CutError(_reason(error)) from error
        if total is not None and self._have() != total:
            raise _CutError(f"{self._have():,} of {total:,} bytes")


def _reason(error: BaseException) -> str:
    """The innermost cause of a requests error in a few words: the outer ones repeat the address."""
    text = str(error)
    for known, words in (
        ("NameResolution", "its name can't be resolved"),
        ("ConnectTimeout", f"no answer within {CONNECT_TIMEOUT:.0f} s"),
        ("timed out", "it stopped answering"),
        ("refused", "connection refused"),
        ("IncompleteRead", "connection closed early"),
        ("Connection aborted", "connection closed early"),
        ("Connection broken", "connection closed early"),
        ("CERTIFICATE", "its certificate can't be verified"),
    ):
        if known in text or known in type(error).__name__:
            return words
    return text[:200]
