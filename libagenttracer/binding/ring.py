"""The BPF ring buffer, read in place.

libbpf's own reader calls back for each record and frees it when the callback returns; a Python callback
could neither raise nor lend the record out. So the ring is mapped here (the consumer page read-write, the
producer page and the doubled data pages read-only), a short C helper walks it, and Python sees slices.

Format: kernel Documentation/bpf/ringbuf.rst and kernel/bpf/ringbuf.c (Linux 5.8 and later).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import select
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from ..errors import MissingCapability, RingError
from ._libbpf import ffi, lib
from .layout import Record
from .maps import Map
from .privileges import missing_for_bpf

__all__ = ["Lease", "RingBuffer"]

MAX_RECORDS = 1024


class Lease:
    """A batch of borrowed records; they are given back to the kernel when the `with` block ends.

    Iterate over it for the records. `spans()` gives where they lie in `view`. If the block is left by an
    exception, the batch is given back all the same: it is the reader's to handle.
    """

    __slots__ = ("_count", "_end", "_lent", "_ring", "view")

    def __init__(self, ring: RingBuffer, count: int, end: int) -> None:
        self._ring = ring
        self._count = count
        self._end = end
        self._lent: list[memoryview] = []
        self.view = memoryview(ring._data)[ring._page_bytes :]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        decode, view = self._ring._record, self.view
        for offset, length in self.spans():
            record = decode(view, offset, length)
            if decode is _slice:  # slices outlive the view that they are of: they are released one by one
                self._lent.append(record)
            yield record

    def spans(self) -> Iterator[tuple[int, int]]:
        """(offset in `view`, length) of each record, bytes."""
        count = self._count
        return zip(self._ring._offsets[0:count], self._ring._lengths[0:count], strict=True)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Gives the records back; borrowed views of them raise ValueError from now on."""
        for part in (*self._lent, self.view):
            with contextlib.suppress(BufferError):  # somebody holds a view of the view
                part.release()
        self._lent.clear()
        self._ring._commit(self, self._end)


class RingBuffer:
    """Reads a ring buffer map.

    Args:
        source: the map, or its file descriptor with `ring_bytes`. A process without privileges that was
            given only the descriptor can read the ring as well.
        record: makes a record of (view, offset, length): a class from `record_class`, or any function.
            Without it records are `memoryview`s.
        ring_bytes: the size of the ring, where `source` is a descriptor.

    Raises:
        RingError: it cannot be mapped, or later: its content makes no sense.
        MissingCapability: mapping is not permitted.

    Plain iteration waits for records and yields copies that stay valid; `lease()` lends a batch without
    copying. One reader at a time. After a fork only the parent may read.
    """

    def __init__(
        self,
        source: Map | int,
        record: type[Record] | Callable[[memoryview, int, int], Any] | None = None,
        *,
        ring_bytes: int = 0,
    ) -> None:
        self._fd = source if isinstance(source, int) else source.fileno()
        self.ring_bytes = ring_bytes if isinstance(source, int) else source.max_entries
        self._record: Callable[[memoryview, int, int], Any] = getattr(record, "unpack_from", record or _slice)
        page = self._page_bytes = mmap.PAGESIZE
        if self.ring_bytes < page or self.ring_bytes & (self.ring_bytes - 1):
            raise RingError("map ring", hint=f"{self.ring_bytes} is not a ring buffer's size")
        info, size = (
            ffi.new("struct bpf_map_info *"),
            ffi.new("uint32_t *", ffi.sizeof("struct bpf_map_info")),
        )
        if not lib.bpf_obj_get_info_by_fd(self._fd, info, size) and info.max_entries != self.ring_bytes:
            raise RingError("map ring", hint=f"it has {info.max_entries} bytes, not {self.ring_bytes}")
        try:
            self._consumer = mmap.mmap(self._fd, page, flags=mmap.MAP_SHARED)
            self._data = mmap.mmap(
                self._fd, page + 2 * self.ring_bytes, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=page
            )
        except OSError as error:
            if error.errno == errno.EPERM:
                raise MissingCapability("map the ring buffer", missing_for_bpf()) from None
            raise RingError("map ring", errno=error.errno or 0) from error
        # A forked embedder must not move the consumer position: it is refused by its pid. Not by
        # MADV_DONTFORK: where the child has a hole it gets other memory, which unmapping this would free.
        self._owner_pid = os.getpid()
        self._consumer_page = ffi.from_buffer(self._consumer)
        self._producer_page = ffi.from_buffer(self._data)
        self._offsets = ffi.new("uint32_t[]", MAX_RECORDS)
        self._lengths = ffi.new("uint32_t[]", MAX_RECORDS)
        self._cursor = ffi.new("uint64_t *")
        self._epoll = select.epoll()
        # edge-triggered: most records come without a wakeup, and a wait should end only for one
        self._epoll.register(self._fd, select.EPOLLIN | select.EPOLLET)
        self._lease: Lease | None = None

    def __enter__(self) -> RingBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmaps the ring. Calling it again does nothing."""
        if self._epoll.closed:
            return
        self._epoll.close()
        ffi.release(self._consumer_page)
        ffi.release(self._producer_page)
        for area in (self._consumer, self._data):
            with contextlib.suppress(BufferError):  # still lent: unmapped when the last view of it goes
                area.close()
        del self._consumer, self._data

    def _check(self) -> None:
        if self._epoll.closed:
            raise RingError("use ring", hint="it has been closed")
        if self._owner_pid != os.getpid():
            raise RingError("use ring", hint="a ring cannot be read in a forked child")

    def fileno(self) -> int:
        """Readable when the kernel has woken the reader: for select, asyncio and the like."""
        self._check()
        return self._epoll.fileno()

    @property
    def position(self) -> int:
        """Bytes that have been given back since the ring was made."""
        self._check()
        return int(lib.lat_ring_consumer(self._consumer_page))

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait in the ring, records still being written and the leased ones included."""
        self._check()
        return int(lib.lat_ring_producer(self._producer_page)) - self.position

    def lease(self, max_records: int = 256, max_bytes: int = 1 << 20) -> Lease:
        """The next finished records, none if there are none; does not wait.

        Until it is released, the kernel cannot reuse their space: keep leases short.

        Args:
            max_records: 1 to 1024.
            max_bytes: no further record is taken once this much is in the batch.
        """
        self._check()
        if self._lease is not None:
            raise RingError("lease", hint="the last lease has not been released")
        self._cursor[0] = lib.lat_ring_consumer(self._consumer_page)
        count = lib.lat_ring_peek(
            self._producer_page,
            self._page_bytes,
            self.ring_bytes,
            self._cursor,
            self._offsets,
            self._lengths,
            min(max_records, MAX_RECORDS),
            max_bytes,
        )
        if count < 0:
            raise RingError("read ring", errno=count, hint="a record's length is impossible")
        self._lease = Lease(self, count, self._cursor[0])
        return self._lease

    def _commit(self, lease: Lease, end: int) -> None:
        if self._lease is lease:
            self._lease = None
            if not self._epoll.closed and self._owner_pid == os.getpid():
                lib.lat_ring_commit(self._consumer_page, end)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleeps until the kernel wakes the reader. False if the time ran out first.

        Only a record submitted with a wakeup ends it, so look at the ring again after a timeout too.
        """
        self._check()
        return bool(self._epoll.poll(timeout_s))

    def __iter__(self) -> Iterator[Any]:
        while not self._epoll.closed:
            with self.lease() as lease:
                # copies: what is yielded must outlive the lease
                copies = [bytes(lease.view[offset : offset + length]) for offset, length in lease.spans()]
            for copy in copies:
                yield copy if self._record is _slice else self._record(memoryview(copy), 0, len(copy))
            if not copies:
                self.wait(0.1)


def _slice(view: memoryview, offset: int, length: int) -> memoryview:
    return view[offset : offset + length]
