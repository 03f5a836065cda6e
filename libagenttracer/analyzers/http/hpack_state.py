"""Header compression (HPACK, RFC 7541) as somebody sees it who may have missed a part.

Table, numbers and Huffman code are hpack's. In the table what an index beyond the entries stands for is
unknown, and an unknown name is the empty one, which HTTP does not allow. After something was missed the table
is emptied. What is inserted from then on stands at the indices that the sender gives it, since they count
from the newest entry; and the sender does not use an index for which it has no entry. So it does not matter
that sizes, and what was evicted when, are unknown too: an entry that is kept too long is never asked for, and
one that is evicted too early is unknown. An index never gives the wrong entry.

For the same reason the size that the peer's settings allow is not looked at: the sender says in the headers
themselves which one it uses.

hpack's own decoder is not used: it stops at an unknown index, copies the rest of a block for each field, and
writes what it reads into the log.
"""

from __future__ import annotations

from hpack import HPACKDecodingError, HPACKError, OversizedHeaderListError
from hpack.hpack import decode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable, table_entry_size

from .limits import Limits

__all__ = ["HeaderDecoder"]

_FIRST_UNKNOWN = HeaderTable.STATIC_TABLE_LENGTH + 1  # while nothing has been inserted
_INTEGER_BYTES = 16  # hpack takes fewer for a number


class _Table(HeaderTable):
    """Knows the entries that were inserted since the last loss."""

    def get_by_index(self, index: int) -> tuple[bytes, bytes]:
        if index >= _FIRST_UNKNOWN + len(self.dynamic_entries):
            return b"", b""
        return super().get_by_index(index)


class HeaderDecoder:
    """Decodes the header blocks of one direction of a connection, in order.

    Args:
        limits: `max_head_bytes` and `max_headers` of a block; the first is also how much is remembered.

    Attributes:
        table: what was inserted.
    """

    def __init__(self, limits: Limits) -> None:
        self._max_list_bytes = limits.max_head_bytes + 32 * limits.max_headers  # RFC 7541, 4.1
        self._max_table_bytes = limits.max_head_bytes
        self.table = _Table()
        self.table.maxsize = min(self.table.maxsize, self._max_table_bytes)

    def fields(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Decodes a block; a field whose name is empty is unknown.

        Raises:
            OversizedHeaderListError: there are more headers than the limits allow.
            HPACKError: it is malformed. In both cases what was inserted before is forgotten.
        """
        try:
            return self._fields(block)
        except HPACKError:
            self.lost()
            raise

    def lost(self) -> None:
        """A block was missed: what was inserted before cannot be found any more."""
        self.table = _Table()
        self.table.maxsize = self._max_table_bytes

    def _fields(self, block: bytes) -> list[tuple[bytes, bytes]]:
        table = self.table
        fields: list[tuple[bytes, bytes]] = []
        room = self._max_list_bytes
        at, end = 0, len(block)
        while at < end:
            first = block[at]
            if first & 0x80:  # RFC 7541, 6.1
                index, at = _integer(block, at, 7)
                name, value = table.get_by_index(index)
            elif first & 0xE0 == 0x20:  # 6.3
                size, at = _integer(block, at, 5)
                if fields:
                    raise HPACKDecodingError("a size within headers")
                table.maxsize = min(size, self._max_table_bytes)
                continue
            else:  # 6.2
                inserted = first & 0x40
                index, at = _integer(block, at, 6 if inserted else 4)
                if index:
                    name = table.get_by_index(index)[0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                if inserted:
                    table.add(name, value)
            fields.append((name, value))
            room -= table_entry_size(name, value)
            if room < 0:
                raise OversizedHeaderListError
        return fields


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """A number (5.1), and where it goes on."""
    if at < len(block):
        value = block[at] & ((1 << bits) - 1)
        if value + 1 < 1 << bits:
            return value, at + 1
    value, used = decode_integer(block[at : at + _INTEGER_BYTES], bits)
    return value, at + used


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string (5.2), and where it goes on."""
    length, start = _integer(block, at, 7)
    end = start + length
    if end > len(block):
        raise HPACKDecodingError("the block ends within a string")
    value = block[start:end]
    return (decode_huffman(value) if block[at] & 0x80 else value), end
