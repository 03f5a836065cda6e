"""Header compression (HPACK, RFC 7541) as somebody sees it who may have missed a part.

The decoder is hpack's, with a table of its own: what an index beyond its entries stands for is unknown, and
an unknown name is the empty one, which HTTP does not allow. After something was missed the table is emptied.
What is inserted from then on stands at the indices that the sender gives it, since they count from the newest
entry; and the sender does not use an index for which it has no entry. So it does not matter that sizes, and
what was evicted when, are unknown too: an entry that is kept too long is never asked for, and one that is
evicted too early is unknown. An index never gives the wrong entry.

For the same reason the size that the peer's settings allow is not looked at: the sender says in the headers
themselves which one it uses.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack import Decoder, HPACKError
from hpack.hpack import decode_integer
from hpack.table import HeaderTable

from .limits import Limits

__all__ = ["HeaderDecoder"]

_FIRST_UNKNOWN = HeaderTable.STATIC_TABLE_LENGTH + 1  # while nothing has been inserted


class _Table(HeaderTable):
    """Knows the entries that were inserted since the last loss."""

    def get_by_index(self, index: int) -> tuple[bytes, bytes]:
        if index >= _FIRST_UNKNOWN + len(self.dynamic_entries):
            return b"", b""
        return super().get_by_index(index)


class HeaderDecoder(Decoder):
    """Decodes the header blocks of one direction of a connection, in order.

    Args:
        limits: `max_head_bytes` and `max_headers` of a block; the first is also how much is remembered.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits.max_head_bytes + 32 * limits.max_headers)  # RFC 7541, 4.1
        self._max_table_bytes = self.max_allowed_table_size = limits.max_head_bytes
        self.header_table = _Table()
        self.header_table.maxsize = min(self.header_table.maxsize, self._max_table_bytes)

    def fields(self, block: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Decodes a block; a field whose name is empty is unknown.

        Raises:
            OversizedHeaderListError: there are more headers than the limits allow.
            HPACKError: it is malformed. In both cases what was inserted before is forgotten.
        """
        try:
            return self.decode(block, raw=True)
        except HPACKError:
            self.lost()
            raise

    def lost(self) -> None:
        """A block was missed: what was inserted before cannot be found any more."""
        self.header_table = _Table()
        self.header_table.maxsize = self._max_table_bytes

    def _update_encoding_context(self, data: bytes | memoryview) -> int:
        size, consumed = decode_integer(data, 5)
        self.header_table.maxsize = min(size, self._max_table_bytes)
        return consumed
