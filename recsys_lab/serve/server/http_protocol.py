"""HttpProtocol: HTTP/1.1 as uvicorn has it on httptools, stricter in two things: versions, and the size of headers."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 1 << 16
"""Of a request line and its headers together, about: a header that began in an earlier piece of the stream counts."""


class HttpProtocol(HttpToolsProtocol):
    """httptools reads a request in a small part of the time that uvicorn's other parser, h11, takes."""

    _in_headers = False
    _header_bytes = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._header_bytes = self._header_bytes + len(data) if self._in_headers else 0
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers are larger than {MAX_HEADER_BYTES >> 10} KB.")

    def on_message_begin(self) -> None:
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("HTTP/0.9 has no answers with a status")  # httptools makes status 400 of it
        super().on_headers_complete()
