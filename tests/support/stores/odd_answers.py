"""Answers that no server should give: hypothesis builds them from pieces that are wrong in one way each."""

from __future__ import annotations

import asyncio

from hypothesis import strategies as st

from tests.support.stores.faulty import Answer

# Stands for a run of bytes longer than a client allows a line.
_LONG = b"<LONG>"

_STATUSES = (200, 200, 200, 201, 204, 206, 301, 304, 307, 400, 401, 404, 412, 416, 500, 503, 999)
_STATUS_LINES = [
    *(b"HTTP/1.1 %d X" % status for status in _STATUSES),
    *(b"HTTP/1.1 200", b"HTTP/9.9 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 99999999999999 X", b"HTTP/1.1 -1 X"),
    *(b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Switching Protocols", b"ICY 200 OK", b"", b"\x16\x03\x01\x02"),
    *(b"\xff" * 9, b"HTTP/1.1 200 " + _LONG, b"HTTP/1.1 200 \xff\xfe", b"HTTP/1.1  200 OK", b"220 ftp.example ready"),
]
_HEADERS = {
    b"content-length": (b"9", b"0", b"3", b"99", b"-1", b"abc", b"9" * 30, b"", b"+9", b"0x9", b"9, 9"),
    b"transfer-encoding": (b"chunked", b"gzip", b"chunked, chunked", b"xchunked", b"\xff"),
    b"etag": (b'"e1"', b'"\xff\xfe"', b"\xed\xb0\x80", b'""', b"", b'W/"e1"', b"e1\x0be2", _LONG),
    b"x-amz-version-id": (b"v1", b"\xff", b"\xc3\xa4", b"", _LONG),
    b"x-amz-bucket-region": (b"eu-west-1", b"evil.example/", b"\xff", b"a b", b""),
    b"location": (b"http://127.0.0.1:1/", b"http://[", b"//", b"\xff", b"file:///etc/passwd"),
    b"content-encoding": (b"gzip", b"br", b"zstd", b"\xff"),
    b"content-type": (b"text/xml; charset=utf-7", b"text/xml; charset=nonsense", b"\xff"),
    b"set-cookie": (b"a=b; expires=nonsense", b"\xff=\xff; max-age=x", b"[]=,;"),
    b"connection": (b"upgrade", b"\xff", b"close"),
    b"date": (b"nonsense",),
    b"retry-after": (b"never",),
    b"content-range": (b"bytes 9-1/x",),
    b"long": (_LONG,),
    b"bad name": (b"x",),
    b"nul": (b"\0",),
    b"": (b"x",),
}
_HEADER_LINES = [
    *(name + b": " + value for name, values in _HEADERS.items() for value in values),
    *(b"no colon", b" folded", _LONG),
]
_BODIES = [
    *(b"a picture", b"", b"9\r\na picture\r\n0\r\n\r\n", b"9\r\na pic", b"zz\r\n", b"-1\r\n\r\n", b"F" * 40 + b"\r\nx"),
    *(b"9;" + _LONG + b"\r\na picture\r\n", b"9\na picture\n0\n\n", b"0\r\nbad trailer\xff\r\n\r\n", _LONG),
]
# No code that blames the credentials: that failure is the store's, and it is rightly waited for.
_CODES = ["NoSuchKey", "NoSuchBucket", "InternalError", "AccessDenied", "PermanentRedirect", "", "ä", "A" * 300]


def raw(*parts: bytes) -> Answer:
    """Exactly these bytes, then the end of the connection."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts).replace(_LONG, b"x" * 9_000))

    return answer


ODD_ANSWERS = st.builds(
    lambda status, headers, body: raw(status, b"\r\n", *(line + b"\r\n" for line in headers), b"\r\n", body),
    st.sampled_from(_STATUS_LINES),
    st.lists(st.sampled_from(_HEADER_LINES), max_size=2),
    st.sampled_from(_BODIES)
    | st.sampled_from(_CODES).map(lambda code: f"<Error><Code>{code}</Code></Error>".encode())
    | st.binary(max_size=40),
) | st.binary(max_size=60).map(raw)
