"""Which program belongs to which kind of probe point: the roles that locators give, and bpf/*.bpf.c."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["END_ROLES", "PROGRAMS", "Attachment"]


class Attachment(NamedTuple):
    """A program, and where it goes.

    Attributes:
        object: the compiled object that has it; loaded when first needed.
        program: its name there.
        returns: attached to the function's return (uretprobe), not to its entry.
    """

    object: str
    program: str
    returns: bool = False


def _both(object_: str, entry: str, returned: str) -> tuple[Attachment, ...]:
    # the return first: a call that is seen to begin will be seen to end
    return Attachment(object_, returned, returns=True), Attachment(object_, entry)


# these tell that a connection is over
END_ROLES = frozenset({"SSL_free", "gnutls_deinit", "PR_Close", "go_tls_close"})

PROGRAMS: dict[str, tuple[Attachment, ...]] = {
    "SSL_read": _both("ssl", "ssl_read", "data_return"),
    "SSL_write": _both("ssl", "ssl_write", "data_return"),
    "SSL_read_ex": _both("ssl", "ssl_read_ex", "data_return"),
    "SSL_write_ex": _both("ssl", "ssl_write_ex", "data_return"),
    "SSL_write_ex2": _both("ssl", "ssl_write_ex2", "data_return"),
    "SSL_sendfile": _both("ssl", "ssl_sendfile", "sendfile_return"),
    "SSL_do_handshake": _both("ssl", "ssl_do_handshake", "handshake_return"),
    "SSL_connect": _both("ssl", "ssl_connect", "handshake_return"),
    "SSL_accept": _both("ssl", "ssl_accept", "handshake_return"),
    "SSL_new": (Attachment("ssl", "ssl_new_return", returns=True),),
    "SSL_clear": (Attachment("ssl", "ssl_clear"),),
    "SSL_free": (Attachment("ssl", "ssl_free"),),
    **{
        f"gnutls_{name}": _both("gnutls", f"gnutls_{name}", "gnutls_data_return")
        for name in (
            "record_send",
            "record_send2",
            "record_send_early_data",
            "record_recv",
            "record_recv_seq",
            "record_recv_early_data",
            "record_recv_packet",
        )
    },
    "gnutls_record_uncork": _both("gnutls", "gnutls_record_uncork", "gnutls_record_uncork_return"),
    "gnutls_handshake": _both("gnutls", "gnutls_handshake", "gnutls_handshake_return"),
    "gnutls_init": _both("gnutls", "gnutls_init", "gnutls_init_return"),
    "gnutls_deinit": (Attachment("gnutls", "gnutls_deinit"),),
    "PR_Read": _both("nss", "pr_read", "pr_data_return"),
    "PR_Write": _both("nss", "pr_write", "pr_data_return"),
    "PR_Recv": _both("nss", "pr_recv", "pr_data_return"),
    "PR_Send": _both("nss", "pr_send", "pr_data_return"),
    "PR_Close": (Attachment("nss", "pr_close"),),
    "SSL_ImportFD": (Attachment("nss", "ssl_importfd_return", returns=True),),
    "go_tls_read_return": (Attachment("go", "go_tls_read_return"),),  # before what it ends
    "go_tls_read": (Attachment("go", "go_tls_read"),),
    "go_tls_write": (Attachment("go", "go_tls_write"),),
    "go_tls_close": (Attachment("go", "go_tls_close"),),
    "aead_seal": (Attachment("aead", "aead_seal"),),
    "aead_seal_scatter": (Attachment("aead", "aead_seal_scatter"),),
    "aead_open": _both("aead", "aead_open", "aead_open_return"),
    "aead_open_gather": _both("aead", "aead_open_gather", "aead_open_return"),
    "ring_seal": (Attachment("aead", "ring_seal"),),
    "ring_open": _both("aead", "ring_open", "ring_open_return"),
}
