"""What has been learnt of each image: what is in it, who maps it, what became of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from ..locators.base import Found, NotReachable
from .images import FileKey, ImageFile
from .locate_cache import Result

__all__ = ["SeenImage"]

MAX_PIDS = 256

State = Literal["searching", "probed", "not probed"]


@dataclass
class SeenImage:
    """An image that has been looked at. What `Discovery.report()` gives are copies.

    Attributes:
        path: as it was first seen.
        key: which file; None if it could not be opened.
        size_bytes: its size.
        build_id: in hexadecimal, "" without.
        results: what the locators found.
        reason: why it is not probed although it might have to be: it cannot be opened or read, the search
            failed, the probes could not be attached. "" where there is nothing to say.
        state: "searching" while a long search goes on.
        pids: processes seen to map it (some, if there are many).
    """

    path: str
    key: FileKey | None = None
    size_bytes: int = 0
    build_id: str = ""
    results: tuple[Result, ...] = ()
    reason: str = ""
    state: State = "not probed"
    pids: set[int] = field(default_factory=set)
    image: ImageFile | None = field(default=None, repr=False, compare=False)

    @property
    def found(self) -> list[Found]:
        """What can be probed."""
        return [item for item in self.results if isinstance(item, Found)]

    @property
    def not_reachable(self) -> list[NotReachable]:
        """What is there and cannot be."""
        return [item for item in self.results if isinstance(item, NotReachable)]

    def note(self, pid: int) -> None:
        """A process maps it."""
        if pid and len(self.pids) < MAX_PIDS:
            self.pids.add(pid)

    def may_be_mapped(self) -> bool:
        """Whether one of the processes that were seen to map it still runs, as far as is known."""
        return len(self.pids) >= MAX_PIDS or any(os.path.exists(f"/proc/{pid}") for pid in self.pids)

    def copy(self) -> SeenImage:
        """As it is now, without the open file."""
        return SeenImage(
            self.path,
            self.key,
            self.size_bytes,
            self.build_id,
            self.results,
            self.reason,
            self.state,
            set(self.pids),
        )

    def release(self) -> None:
        """Closes the file."""
        image, self.image = self.image, None
        if image is not None:
            image.close()
