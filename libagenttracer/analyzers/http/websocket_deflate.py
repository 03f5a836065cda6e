"""permessage-deflate (RFC 7692): whether it is in use, and which messages are compressed."""

from __future__ import annotations

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from ...events import HttpResponse

__all__ = ["CompressedBit", "deflate_parameters"]


def deflate_parameters(response: HttpResponse) -> set[str] | None:
    """Names of the parameters with which permessage-deflate was accepted; None: it was not.

    The window's size is not needed: what was made with a small one can be read with the largest.
    """
    for name, value in response.headers:
        if name.lower() == "sec-websocket-extensions":
            for extension in value.lower().split(","):
                words = [word.partition("=")[0].strip() for word in extension.split(";")]
                if words[0] == "permessage-deflate":
                    return set(words[1:])
    return None


class CompressedBit(Extension):
    """Lets wsproto accept the bit that marks a compressed message, and remembers it.

    wsproto's own extension is not used: it has no limit, and a ping between the fragments of a compressed
    message makes it take the rest for uncompressed.
    """

    name = "permessage-deflate"
    bit = False

    def enabled(self) -> bool:
        """It was agreed upon."""
        return True

    def offer(self) -> bool | str:
        """Nothing is offered to anybody."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Takes the next frame's header; gives the bits that this extension may set."""
        if rsv.rsv1 and opcode not in (Opcode.TEXT, Opcode.BINARY):
            return CloseReason.PROTOCOL_ERROR
        self.bit = rsv.rsv1
        return RsvBits(True, False, False)
