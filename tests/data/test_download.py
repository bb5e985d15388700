"""Downloads against a local HTTP server: right file, wrong file, cut connection, resume."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recsys_lab.data.reading.download import ATTEMPTS, CHUNK, ChecksumError, DownloadError, download

CONTENT = bytes(range(256)) * 4096  # 1 MiB
CHECKSUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Publisher:
    """A file server that can misbehave. `asked` holds the Range header of every request."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.cut_after: int | None = None  # bytes of the body after which the connection is closed
        self.cuts = 10**9  # how many answers are cut before it behaves
        self.tag = '"v1"'
        self.asked: list[str | None] = []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                publisher.asked.append(wanted)
                if self.path != "/file.bin":
                    self.send_error(404)
                    return
                start = 0
                if wanted and self.headers.get("If-Range") == publisher.tag:
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                body = publisher.content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", publisher.tag)
                self.end_headers()
                if publisher.cut_after is not None and publisher.cuts > 0:
                    publisher.cuts -= 1
                    body = body[: publisher.cut_after]
                self.wfile.write(body)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/file.bin"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.server.shutdown()
    publisher.server.server_close()


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_right_file_arrives_and_is_not_fetched_twice(publisher: Publisher, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    for _ in range(2):
        assert download(publisher.url, path, CHECKSUM) == path
        assert path.read_bytes() == CONTENT
    assert len(publisher.asked) == 1
    assert names(path.parent) == {"file.bin"}


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_wrong_checksum_leaves_nothing(publisher: Publisher, tmp_path: Path, algorithm: str) -> None:
    with pytest.raises(ChecksumError) as caught:
        download(publisher.url, tmp_path / "file.bin", f"{algorithm}:{'0' * 32}")
    assert publisher.url in str(caught.value)
    assert hashlib.new(algorithm, CONTENT).hexdigest() in str(caught.value)
    assert names(tmp_path) == set()


def test_next_address_is_tried_when_the_first_has_another_file(publisher: Publisher, tmp_path: Path) -> None:
    other = Publisher()
    other.content = b"an error page that says 200"
    try:
        path = download([other.url, publisher.url], tmp_path / "file.bin", CHECKSUM)
    finally:
        other.server.shutdown()
        other.server.server_close()
    assert path.read_bytes() == CONTENT


def test_cut_connection_is_an_error_and_leaves_no_whole_looking_file(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cut_after = 4 * CHUNK
    with pytest.raises(DownloadError, match="connection was cut"):
        download(publisher.url, tmp_path / "file.bin", CHECKSUM)
    assert len(publisher.asked) == ATTEMPTS
    assert names(tmp_path) == {"file.bin.part", "file.bin.part.etag"}
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[: 4 * CHUNK * ATTEMPTS]


def test_a_later_call_goes_on_where_the_cut_one_stopped(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cut_after = 4 * CHUNK
    with pytest.raises(DownloadError):
        download(publisher.url, tmp_path / "file.bin", CHECKSUM)
    publisher.cut_after = None
    download(publisher.url, tmp_path / "file.bin", CHECKSUM)
    assert publisher.asked[-1] == f"bytes={4 * CHUNK * ATTEMPTS}-"
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert names(tmp_path) == {"file.bin"}


def test_one_cut_is_mended_within_the_call(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cut_after, publisher.cuts = CHUNK, 1
    download(publisher.url, tmp_path / "file.bin")  # without a checksum the size still has to be right
    assert publisher.asked == [None, f"bytes={CHUNK}-"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_of_an_older_version_is_thrown_away(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"old" * 100)
    (tmp_path / "file.bin.part.etag").write_text('"v0"')
    download(publisher.url, tmp_path / "file.bin")
    assert publisher.asked == ["bytes=300-"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_of_unknown_version_is_thrown_away(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"?" * 300)
    download(publisher.url, tmp_path / "file.bin")
    assert publisher.asked == [None]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_unreachable_and_missing_are_named_with_a_way_out(publisher: Publisher, tmp_path: Path) -> None:
    missing, closed = publisher.url.replace("file.bin", "gone.bin"), "http://127.0.0.1:9/file.bin"
    with pytest.raises(DownloadError) as caught:
        download([closed, missing], tmp_path / "file.bin", CHECKSUM)
    text = str(caught.value)
    assert closed in text and "refused" in text
    assert missing in text and "404" in text
    assert f"put the file at {tmp_path / 'file.bin'}" in text
    assert names(tmp_path) == set()
