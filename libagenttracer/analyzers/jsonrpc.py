"""JSON-RPC 2.0 messages, and which answer belongs to which request. Independent of what carries them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

__all__ = ["RpcCall", "RpcPairing", "messages_in"]

Sender = Literal["client", "server"]
_Key = tuple[Hashable, Sender, "int | str"]
_decode = msgspec.json.Decoder().decode
_MAX_DEPTH = 100
_OTHER: dict[Sender, Sender] = {"client": "server", "server": "client"}


def messages_in(text: bytes | str) -> list[dict[str, Any]]:
    """The JSON-RPC 2.0 messages in a JSON text: one, or several in an array; none if it is anything else."""
    if (b'"jsonrpc"' if isinstance(text, bytes) else '"jsonrpc"') not in text:  # type: ignore[operator]
        return []
    try:
        value = _decode(text)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return []
    values = value if isinstance(value, list) else [value]
    brackets = (b"{", b"[") if isinstance(text, bytes) else ("{", "[")
    if sum(map(text.count, brackets)) > _MAX_DEPTH and _is_deep(values):  # type: ignore[arg-type]
        return []
    return [item for item in values if isinstance(item, dict) and item.get("jsonrpc") == "2.0"]


def _is_deep(value: Any) -> bool:
    """Whether it is nested more deeply than what comes later should have to follow."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, (list, dict))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


@dataclass(eq=False)
class RpcCall:
    """A request or a notification.

    Attributes:
        sender: of the request.
        kind: "request" or "notification".
        method: "" if the request was not seen.
        rpc_id: its id; null for a notification.
        params: as sent.
        begun_ns: when it was sent (if it was not seen: when its answer came), nanoseconds since the epoch.
        context: what the caller gave with it.
        answer: the message that answers it, once that came.
        ended_ns: when that came.
        reasons: why it is incomplete: "no_answer", "no_request".
    """

    sender: Sender
    kind: Literal["request", "notification"]
    method: str
    rpc_id: int | str | None
    params: Any
    begun_ns: int
    context: Any
    size: int = 0
    answer: dict[str, Any] | None = None
    ended_ns: int | None = None
    reasons: set[str] = field(default_factory=set)


class RpcPairing:
    """Pairs answers with requests by id, within scopes: in each of them ids are unique (a session, a
    connection, the pipes of a process).

    Args:
        max_open: requests without an answer; if there are more, the oldest one is given up.
        max_open_bytes: of these requests together.
    """

    def __init__(self, max_open: int = 10_000, max_open_bytes: int = 32 << 20) -> None:
        self._max_open = max_open
        self._max_open_bytes = max_open_bytes
        self._open: OrderedDict[_Key, RpcCall] = OrderedDict()
        self._scopes: dict[tuple[Hashable, Sender], dict[_Key, None]] = {}
        self._bytes = 0

    def take(
        self,
        scope: Hashable,
        sender: Sender,
        message: dict[str, Any],
        at_ns: int,
        context: Any = None,
        size: int = 0,
    ) -> list[RpcCall]:
        """Takes the next message.

        Args:
            scope: where its id is unique.
            sender: who sent it.
            message: JSON-RPC, decoded.
            at_ns: when it was sent, nanoseconds since the epoch.
            context: kept with a request or notification.
            size: its bytes, roughly.

        Returns:
            Calls of which nothing more will come: a notification, a request with its answer, an answer whose
            request was not seen, and requests that are given up. A message that is none of these gives
            nothing.
        """
        method, rpc_id = message.get("method"), _id(message.get("id"))
        if isinstance(method, str):
            params = message.get("params")
            if message.get("id") is None:
                return [RpcCall(sender, "notification", method, None, params, at_ns, context)]
            if rpc_id is None:
                return []
            return self._begin(
                (scope, sender, rpc_id),
                RpcCall(sender, "request", method, rpc_id, params, at_ns, context, size),
            )
        if "result" not in message and "error" not in message:
            return []
        asker = _OTHER[sender]
        if rpc_id is None:  # an error, of a request that the other side could not read; whose is clear if …
            mine = self._scopes.get((scope, asker), {})
            if len(mine) != 1:  # … there is but one
                return []
            rpc_id = next(iter(mine))[2]
        call = self._remove((scope, asker, rpc_id))
        if call is None:
            call = RpcCall(asker, "request", "", rpc_id, None, at_ns, context, reasons={"no_request"})
        call.answer = message
        call.ended_ns = at_ns
        return [call]

    def close(self, scope: Hashable) -> list[RpcCall]:
        """Nothing more comes in a scope; gives the requests that have no answer."""
        return [self._give_up(key) for key in self._keys(scope)]

    def move(self, scope: Hashable, to: Hashable) -> list[RpcCall]:
        """The answers that are missing in a scope will come in another one; gives what is given up for it."""
        given_up = []
        for key in self._keys(scope):
            call = self._remove(key)
            assert call is not None
            given_up += self._begin((to, *key[1:]), call)
        return given_up

    def close_all(self) -> list[RpcCall]:
        """Nothing more comes; gives the requests that have no answer."""
        return [self._give_up(key) for key in [*self._open]]

    def _keys(self, scope: Hashable) -> list[_Key]:
        return [*self._scopes.get((scope, "client"), ()), *self._scopes.get((scope, "server"), ())]

    def _begin(self, key: _Key, call: RpcCall) -> list[RpcCall]:
        given_up = [self._give_up(key)] if key in self._open else []
        self._open[key] = call
        self._scopes.setdefault(key[:2], {})[key] = None
        self._bytes += call.size
        while len(self._open) > self._max_open or self._bytes > self._max_open_bytes:
            given_up.append(self._give_up(next(iter(self._open))))
        return given_up

    def _give_up(self, key: _Key) -> RpcCall:
        call = self._remove(key)
        assert call is not None
        call.reasons.add("no_answer")
        return call

    def _remove(self, key: _Key) -> RpcCall | None:
        call = self._open.pop(key, None)
        if call is not None:
            self._bytes -= call.size
            keys = self._scopes[key[:2]]
            del keys[key]
            if not keys:
                del self._scopes[key[:2]]
        return call


def _id(value: Any) -> int | str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**63 else str(value)
    return None
