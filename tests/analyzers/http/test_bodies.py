"""Bodies: encodings are removed however the bytes are cut, and memory stays bounded."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.analyzers.http.bodies import Body
from libagenttracer.analyzers.http.limits import Limits

from .http1_traffic import cut

TEXT = b"".join(b"%d: some words, and some more\n" % i for i in range(2000))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "identity": bytes,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
    "zstd , identity,GZIP": lambda data: gzip.compress(zstandard.compress(data)),
}
BOMBS = ["gzip", "deflate", "Deflate", "br", "zstd", "gzip, br"]


def decode(
    encoding: str, parts: list[bytes], limits: Limits | None = None, expected: int | None = None
) -> tuple[bytes, Body]:
    body = Body(encoding, expected, limits or Limits())
    given = b"".join(body.add(part) for part in parts) + body.finish()
    assert body.length == len(given)
    assert body.value() == given
    assert body.wire_bytes == sum(map(len, parts))
    return given, body


@pytest.mark.parametrize("encoding", ENCODERS)
@settings(max_examples=10, deadline=None)
@given(places=st.lists(st.integers(0, 10**6), max_size=40))
def test_encodings(encoding: str, places: list[int]) -> None:
    coded = ENCODERS[encoding](TEXT)
    for parts in ([coded], cut(coded, places), cut(coded, range(0, len(coded), 7))):
        given, body = decode(encoding, parts, expected=len(coded))
        assert given == TEXT
        assert not body.reasons


@pytest.mark.parametrize("encoding", ENCODERS)
def test_each_byte_alone(encoding: str) -> None:
    coded = ENCODERS[encoding](TEXT[:1000])
    given, body = decode(encoding, cut(coded, range(len(coded))))
    assert (given, body.reasons) == (TEXT[:1000], set())


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("data", [b"", b"x"])
def test_short_bodies(encoding: str, data: bytes) -> None:
    given, body = decode(encoding, [ENCODERS[encoding](data)])
    assert (given, body.reasons) == (data, set())
    assert decode(encoding, [])[1].reasons == set()  # as with a response to HEAD


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_several_members(encoding: str) -> None:
    pack = ENCODERS[encoding]
    coded = pack(TEXT) + pack(b"") + pack(b"end") + (b"\0" * 9 if encoding == "gzip" else b"")
    for parts in ([coded], cut(coded, range(len(coded)))):
        given, body = decode(encoding, parts)
        assert (given, body.reasons) == (TEXT + b"end", set())


@pytest.mark.parametrize("encoding", [name for name in ENCODERS if name != "identity"])
def test_broken_ones(encoding: str) -> None:
    coded = ENCODERS[encoding](TEXT)
    for broken in (coded[:-1], coded[:50], coded + b"more", coded[:60] + b"\xff" * 20, b"plain text", b"\0"):
        for parts in ([broken], cut(broken, range(0, len(broken), 11))):
            given, body = decode(encoding, parts)
            assert body.reasons == {"bad_encoding"}
            if coded.startswith(broken):
                assert TEXT.startswith(given)


@pytest.mark.parametrize("encoding", ["compress", "gzip, what", "gzip,gzip,gzip,gzip"])
def test_unknown_encodings_are_kept(encoding: str) -> None:
    given, body = decode(encoding, [TEXT[:9], TEXT[9:]])
    assert (given, body.reasons) == (TEXT, {"bad_encoding"})
    assert decode(encoding, [])[1].reasons == set()


def test_a_gap() -> None:
    body = Body("", 10, Limits())
    assert body.add(b"abc") == b"abc"
    body.gap()
    assert body.add(memoryview(b"def")) == b"def"
    assert (body.value(), body.wire_bytes) == (b"abcdef", 6)
    coded = gzip.compress(TEXT)
    body = Body("gzip", None, Limits())
    before = body.add(coded[:1000])
    body.gap()
    assert body.add(coded[1001:]) == b""
    assert body.finish() == b""
    assert before
    assert (body.value(), body.reasons) == (before, set())


@pytest.mark.parametrize("encoding", ENCODERS)
def test_too_long(encoding: str) -> None:
    coded = ENCODERS[encoding](TEXT)
    for size in (len(coded), 5):
        given, body = decode(encoding, cut(coded, range(0, len(coded), size)), Limits(max_body_bytes=100))
        assert (given, body.reasons) == (TEXT[:100], {"too_long"})
    given, body = decode(encoding, [coded], Limits(max_body_bytes=len(TEXT)))
    assert (given, body.reasons) == (TEXT, set())


@pytest.mark.parametrize("encoding", BOMBS)
def test_bombs(encoding: str) -> None:
    coded = ENCODERS[encoding](bytes(8 << 20))
    limits = Limits(ratio_floor_bytes=100_000, max_ratio=100)
    for parts in ([coded], cut(coded, range(0, len(coded), 50))):
        given, body = decode(encoding, parts, limits)
        assert body.reasons == {"bomb"}
        assert len(given) <= max(limits.ratio_floor_bytes, limits.max_ratio * len(coded))


def test_not_every_good_ratio_is_a_bomb() -> None:
    coded = gzip.compress(bytes(1 << 20))
    given, body = decode("gzip", [coded])
    assert (len(given), body.reasons) == (1 << 20, set())


_MEMORY = """
import sys
from libagenttracer.analyzers.http.bodies import Body
from libagenttracer.analyzers.http.limits import Limits

def kib(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))

def peak(encoding, parts, expected):
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    before = kib("VmRSS")
    body = Body(encoding, expected, Limits())
    for part in parts:
        body.add(part, give=False)
    body.finish()
    value = body.value()
    return (kib("VmHWM") - before) - len(value) // 1024

exec(sys.argv[1])
"""


def memory(program: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, program], check=True, capture_output=True, text=True, timeout=60
    )
    return [int(line) for line in done.stdout.split()]


def test_memory_of_a_large_body() -> None:
    """At most 1 MiB beyond the body itself; also the second time, when the allocator has changed its ways."""
    program = "for _ in range(2): print(peak('', [memoryview(bytes(16384))] * 1280, 20 << 20))"
    assert all(beyond < 1024 for beyond in memory(program))


def test_memory_of_a_length_that_is_not_true() -> None:
    (beyond,) = memory("print(peak('', [b'abc', b'def'], 1 << 60))")
    assert beyond < 512


def test_memory_of_bombs() -> None:
    program = """
import brotli, gzip, zlib, zstandard
zeros = bytes(100 << 20)
coded = {"gzip": gzip.compress(zeros), "br": brotli.compress(zeros, quality=1)}
coded["zstd"] = zstandard.compress(zeros)
coded["gzip, gzip"] = gzip.compress(coded["gzip"])
peak("br", [brotli.compress(b"x")], None)
for name, data in coded.items():
    print(peak(name, [data], None))
"""
    assert all(beyond < 12 << 10 for beyond in memory(program))
