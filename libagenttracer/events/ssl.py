"""Events of TLS libraries."""

from __future__ import annotations

from typing import Any, Literal

from .base import Event, event_type

__all__ = ["SslClose", "SslConnection", "SslData", "SslHandshake", "SslSendfile", "SslUnseen"]

Direction = Literal["read", "write"]


@event_type("ssl_data")
class SslData(Event, frozen=True, gc=False):
    """Plaintext that one call of a TLS library moved, or a part of it: a long call gives several events.

    Attributes:
        pid: process (thread group), in the initial pid namespace.
        tid: thread.
        ppid: parent process when the process was first seen.
        uid: real user id.
        comm: name of the process's first thread.
        exe: path of its executable, "" where unknown.
        direction: "write" if the process sent it, "read" if it received it.
        data_len: bytes that this event stands for.
        offset: bytes of this connection and direction before them.
        connection_id: one use of an SSL object; unique on this machine since its boot, and beyond.
        function: the call.
        latency_ns: time spent in it.
        library: the file that it belongs to, "" where unknown.
        payload: the plaintext; shorter than `data_len` only if `incomplete`.
        call_len, call_offset: where a call gives several events, the bytes that it moved, and those of
            them before this event.
        joined_late: the connection was first seen after it had begun: `offset` counts from there.
        incomplete: something is missing; `reason` says why.
        unredacted: a decoding chain was on, and this event was asked for all the same: unlike the decoded
            events it is as it was on the wire.
        parsed_http: the HTTP messages whose first byte it has: type, method, target, status, version, headers
            and id of the event that follows.
    """

    pid: int
    tid: int
    ppid: int
    uid: int
    comm: str
    exe: str
    direction: Direction
    data_len: int
    offset: int
    connection_id: str
    function: str
    latency_ns: int
    library: str
    payload: bytes
    call_len: int | None = None
    call_offset: int | None = None
    joined_late: bool = False
    incomplete: bool = False
    reason: str | None = None
    unredacted: bool = False
    parsed_http: list[dict[str, Any]] | None = None


@event_type("ssl_handshake")
class SslHandshake(Event, frozen=True, gc=False):
    """A handshake call returned. A non-blocking one returns several times before it is through.

    Attributes:
        pid, tid, ppid, uid, comm, exe, connection_id, function, latency_ns, library: as in `SslData`.
        result: "ok", or "incomplete" (it has to be called again, or it failed: the library does not
            say which by its return value).
        return_value: what the call returned.
        calls: handshake calls on this connection so far.
        handshake_ns: time since the first of them began.
    """

    pid: int
    tid: int
    ppid: int
    uid: int
    comm: str
    exe: str
    connection_id: str
    function: str
    latency_ns: int
    library: str
    result: Literal["ok", "incomplete"]
    return_value: int
    calls: int
    handshake_ns: int
    joined_late: bool = False


@event_type("ssl_sendfile")
class SslSendfile(Event, frozen=True, gc=False):
    """`SSL_sendfile` sent bytes of a file inside the kernel: a transfer that cannot be read, only noted.

    Attributes:
        pid, tid, ppid, uid, comm, exe, connection_id, function, latency_ns, library: as in `SslData`.
        data_len: bytes sent.
        offset: bytes of this connection written before them.
        fd: the file's descriptor in the process.
        file_offset: where in the file they begin.
    """

    pid: int
    tid: int
    ppid: int
    uid: int
    comm: str
    exe: str
    direction: Direction
    data_len: int
    offset: int
    connection_id: str
    function: str
    latency_ns: int
    library: str
    fd: int
    file_offset: int
    joined_late: bool = False


@event_type("ssl_close")
class SslClose(Event, frozen=True, gc=False):
    """A connection's SSL object was freed: nothing more comes of it.

    Attributes:
        pid, tid, ppid, uid, comm, exe, connection_id, library: as in `SslData`.
        read_bytes, written_bytes: what it carried, lost bytes included.
        joined_late: the connection was first seen after it had begun: they count from there.
    """

    pid: int
    tid: int
    ppid: int
    uid: int
    comm: str
    exe: str
    connection_id: str
    read_bytes: int
    written_bytes: int
    library: str
    joined_late: bool = False


@event_type("ssl_connection")
class SslConnection(Event, frozen=True, gc=False):
    """It is known where a connection goes. Told once; again if that changes.

    Attributes:
        pid, tid, ppid, uid, comm, exe, connection_id: as in `SslData`.
        fd: the socket's descriptor in the process.
        local_address, remote_address: of the socket (IPv4 or IPv6).
        server_name: the host that the client asked for (SNI), as it was sent.
        alpn: the protocols that the client offered, best first.
        binding: how it is known: the socket was used "inside_call" (of the TLS library), just before or
            after it by the same thread ("next_to_call"), or the connection's "object" names its descriptor.

    None stands for what is not known.
    """

    pid: int
    tid: int
    ppid: int
    uid: int
    comm: str
    exe: str
    connection_id: str
    fd: int | None
    local_address: str | None
    local_port: int | None
    remote_address: str | None
    remote_port: int | None
    server_name: str | None
    alpn: list[str] | None
    binding: Literal["inside_call", "next_to_call", "object"]


@event_type("ssl_unseen")
class SslUnseen(Event, frozen=True, gc=False):
    """A process talks through TLS or QUIC, but no probe of it was ever hit: its plaintext is missing.

    Attributes:
        pid, tid, ppid, uid, comm, exe: as in `SslData`.
        protocol: "tls" (it sent a ClientHello), "quic" (datagrams to port 443), or "https" (TCP to port 443
            that began before it was watched).
        fd, local_address, local_port, remote_address, remote_port, server_name, alpn: of the socket, as in
            `SslConnection`.
    """

    pid: int
    tid: int
    ppid: int
    uid: int
    comm: str
    exe: str
    protocol: Literal["tls", "quic", "https"]
    fd: int | None
    local_address: str | None
    local_port: int | None
    remote_address: str | None
    remote_port: int | None
    server_name: str | None
    alpn: list[str] | None
