"""The lines at the end of a live run."""

from __future__ import annotations

from libagenttracer.cli.live import summary
from libagenttracer.runners.interface import LibraryCoverage, LossCount, StackCoverage
from libagenttracer.runners.runner import Stats

LIBSSL = LibraryCoverage(
    "/usr/lib/x86_64-linux-gnu/libssl.so.3",
    {"SSL_read": 3, "SSL_write": 1, "SSL_read_ex": 3, "SSL_write_ex": 2, "SSL_do_handshake": 3},
    stacks=[StackCoverage("openssl", "3")],
)
GNUTLS = LibraryCoverage("/usr/lib/libgnutls.so.30", stacks=[StackCoverage("gnutls", "3.7.9")])
NSPR = LibraryCoverage("/usr/lib/libnspr4.so", stacks=[StackCoverage("nss")])
JAVA = LibraryCoverage(
    "/usr/bin/java",
    problem="its code is made at run time",
    stacks=[StackCoverage("java", reason="its code is made at run time", advice="use a proxy")],
)


def test_calls_then_what_had_none() -> None:
    stats = Stats(events=5, payload_bytes=288, libraries=[GNUTLS, LIBSSL, JAVA, NSPR])
    assert summary(stats, 2.71, tls=True).splitlines() == [
        "5 events, 288 bytes of plaintext in 2.7 s; lost: nothing",
        "  /usr/lib/x86_64-linux-gnu/libssl.so.3 (openssl 3): SSL_read 3, SSL_write 1, SSL_read_ex 3, "
        "SSL_write_ex 2, SSL_do_handshake 3",
        "  /usr/bin/java: its code is made at run time",
        "    use a proxy",
        "  no calls: /usr/lib/libgnutls.so.30 (gnutls 3.7.9), /usr/lib/libnspr4.so (nss)",
    ]


def test_on_a_terminal_it_is_wrapped() -> None:
    lines = summary(Stats(libraries=[LIBSSL, GNUTLS]), 1.0, tls=True, width=80).splitlines()
    assert lines[1:] == [
        "  /usr/lib/x86_64-linux-gnu/libssl.so.3 (openssl 3): SSL_read 3, SSL_write 1,",
        "    SSL_read_ex 3, SSL_write_ex 2, SSL_do_handshake 3",
        "  no calls: /usr/lib/libgnutls.so.30 (gnutls 3.7.9)",
    ]


def test_names_cannot_do_anything_to_a_terminal() -> None:
    stats = Stats(
        libraries=[LibraryCoverage("/tmp/\x1b[2J\nlost: everything", {"SSL_read": 1})],
        notes=["warning: \x1b]0;x\x07[7] talks tls to \x9b1m, not seen"],
        lost={"ring_full": LossCount(2, 10)},
    )
    for width in (None, 80):
        said = summary(stats, 1.0, tls=True, width=width)
        assert "lost: ring_full 2 (10 bytes)" in said
        assert len(said.splitlines()) == 4
        assert not any(
            ord(character) < 32 or 127 <= ord(character) < 160 for character in said if character != "\n"
        )


def test_nothing_to_probe() -> None:
    assert summary(Stats(), 1.0, tls=True).splitlines()[1:] == ["  no TLS library was found"]
    assert summary(Stats(), 1.0, tls=False) == "0 events in 1.0 s; lost: nothing"
