"""Calls on sockets: from a record to its events."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from typing import Any

from ..errors import LayoutError
from ..events import DnsQuery, Event, NetAccept, NetBind, NetClose, NetConnect, NetListen, NetSend
from .record_kinds import Call, NetFlag

__all__ = ["NET_EVENTS", "decode_net", "dns_questions"]

_FAMILIES = {int(socket.AF_UNIX): "unix", int(socket.AF_INET): "inet", int(socket.AF_INET6): "inet6"}
_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}
_TYPES = {1: "stream", 2: "dgram", 3: "raw", 5: "seqpacket"}
_LATE, _BYTES_KNOWN = int(NetFlag.LATE), int(NetFlag.BYTES_KNOWN)
_SENDS = frozenset({Call.sendto, Call.sendmsg, Call.sendmmsg, Call.write})

# the event type of each call, for what is lost
NET_EVENTS: dict[int, str] = {
    Call.connect: "net_connect",
    Call.accept: "net_accept",
    Call.accept4: "net_accept",
    Call.bind: "net_bind",
    Call.listen: "net_listen",
    Call.sendto: "net_send",
    Call.close: "net_close",
}


def decode_net(record: Any, common: Any, wanted: Collection[str], next_id: Callable[[], str]) -> list[Event]:
    """The events of a `NetRecord`: a datagram to a name server may be a `NetSend` and `DnsQuery`s.

    Args:
        common: the fields of `ProcessEvent`, in order.
        wanted: "net", "dns" or both.
        next_id: gives ids for further events of the same record.
    """
    family = record.family
    name = _FAMILIES.get(family, str(family))
    inet = family in (socket.AF_INET, socket.AF_INET6)
    protocol = _PROTOCOLS.get(record.protocol) if inet else None
    local = _address(family, record.local_address, record.local_bytes)
    remote = _address(family, record.remote_address, record.remote_bytes)
    call = record.call
    fields = (
        *common,
        name,
        protocol or _TYPES.get(record.type, str(record.type)),
        local,
        record.local_port if inet and local is not None else None,
        remote,
        record.remote_port if inet and remote is not None else None,
        record.result,
        record.fd if record.fd >= 0 else None,
    )
    events: list[Event] = []
    if call in _SENDS:
        if "net" in wanted:
            events.append(NetSend(*(*fields, record.data_bytes)))
        for question in dns_questions(record.payload.tobytes()) if record.payload_bytes else ():
            if events:
                fields = (next_id(), *fields[1:])
            events.append(DnsQuery(*(*fields, *question)))
        return events
    if call == Call.connect:
        return [NetConnect(*(*fields, bool(record.flags & _LATE)))]
    if call == Call.close:
        known = record.flags & _BYTES_KNOWN
        sent, received = (record.bytes_sent, record.bytes_received) if known else (None, None)
        return [NetClose(*(*fields, sent, received))]
    if call == Call.bind:
        return [NetBind(*fields)]
    if call == Call.listen:
        return [NetListen(*fields)]
    if call in (Call.accept, Call.accept4):
        return [NetAccept(*fields)]
    raise LayoutError(f"a record of a socket has the call number {call}")


def dns_questions(payload: bytes) -> list[tuple[str, str]]:
    """Name and type of each question in a DNS message (RFC 1035, 4.1); none if it is no query."""
    import dns.exception  # seldom needed, slow to import
    import dns.flags
    import dns.message
    import dns.rdatatype

    try:
        message = dns.message.from_wire(payload, question_only=True, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return []
    if message.flags & dns.flags.QR:
        return []
    return [
        (item.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(item.rdtype))
        for item in message.question
    ]


def _address(family: int, raw: bytes, size: int) -> str | None:
    if not size:
        return None
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[:4])
    if family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, raw[:16])
    name = raw[:size]
    if name[:1] == b"\0":  # abstract: everything counts, NULs too
        return "@" + name[1:].decode(errors="surrogateescape") if size > 1 else None
    path = name.split(b"\0", 1)[0]
    return path.decode(errors="surrogateescape") if path else None
