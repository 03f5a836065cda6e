"""GnuTLS, by its symbols: a shared library nearly everywhere."""

from __future__ import annotations

from .base import Found, ProbePoint
from .elf import Image
from .versions import stated_version

__all__ = ["locate"]

_ROLES = {
    name: name
    for name in (
        "gnutls_record_send",
        "gnutls_record_send2",
        "gnutls_record_send_early_data",
        "gnutls_record_recv",
        "gnutls_record_recv_seq",
        "gnutls_record_recv_early_data",
        "gnutls_record_recv_packet",
        "gnutls_record_uncork",
        "gnutls_handshake",
        "gnutls_init",
        "gnutls_deinit",
    )
}
# takes a range to pad to as well, which says nothing of the data
_ROLES["gnutls_record_send_range"] = "gnutls_record_send"


def locate(image: Image) -> Found | None:
    """Where to probe GnuTLS, None if it is not defined here.

    Raises:
        LibraryError: an image that cannot be believed.
    """
    found = image.symbols(_ROLES)
    if not {"gnutls_record_send", "gnutls_record_recv"} <= found.keys():
        return None
    points = []
    for symbol, role in _ROLES.items():
        offset = image.code_offset_of(found[symbol]) if symbol in found else None
        if offset is not None:
            points.append(ProbePoint(role, offset))
    version = stated_version(image, rb"[34]\.[0-9]{1,2}\.[0-9]{1,2}")
    return Found("gnutls", tuple(points), "symbols", version)
