"""The usual way from TLS plaintext to what it means, as one list of analyzers."""

from __future__ import annotations

from ..events import (
    Event,
    HttpBody,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    LlmCall,
    McpCall,
    SseEvent,
    SseStream,
    SslClose,
    SslConnection,
    StreamData,
    StreamEnd,
    UnknownProtocol,
    WebSocketMessage,
)
from .base import Analyzer
from .chunks import ChunkMerger
from .http import HttpAnalyzer
from .llm import LlmAnalyzer
from .mcp import McpAnalyzer
from .select import Hide, HideRecorded
from .sse import SseMerger

__all__ = ["decoders"]

_NEVER: tuple[type[Event], ...] = (StreamData, StreamEnd, HttpBody, SseEvent)
_HTTP: tuple[type[Event], ...] = (
    HttpRequest, HttpResponse, HttpExchange, WebSocketMessage, UnknownProtocol,
)  # fmt: skip


def decoders(
    *, http: bool = False, sse: bool = False, llm: bool = False, mcp: bool = False, raw: bool = False
) -> list[Analyzer]:
    """Analyzers that decode, in their order; with nothing asked for there are none.

    Args:
        http: show requests, responses, exchanges and WebSocket messages.
        sse: show each stream of server-sent events, whole; its response then refers to it.
        llm: show calls of language models.
        mcp: show calls of the Model Context Protocol.
        raw: show the plaintext too, as it was on the wire.
    """
    if not (http or sse or llm or mcp):
        return []
    chain: list[Analyzer] = [HideRecorded(), ChunkMerger(raw=raw), HttpAnalyzer()]
    # a response whose stream is merged refers to it, so then it is shown as well; calls of models do without
    merged = sse or mcp or (llm and not http)
    if merged:
        chain.append(SseMerger(each=mcp))  # an MCP answer may be one event of an endless stream
    if llm:
        chain.append(LlmAnalyzer())
    if mcp:
        chain.append(McpAnalyzer())
    shown: dict[type[Event], bool] = {
        SslClose: raw,
        SslConnection: http or raw,
        SseStream: sse or (http and merged),
        LlmCall: llm,
        McpCall: mcp,
        **dict.fromkeys(_HTTP, http),
    }
    return [*chain, Hide({*_NEVER, *(kind for kind, wanted in shown.items() if not wanted)})]
