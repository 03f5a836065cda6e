"""Discovery with the kernel's programs, for the tests."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from libagenttracer.binding import Object
from libagenttracer.locators import Found
from libagenttracer.runners.filters import Filter
from libagenttracer.runners.tracking import Tracking, open_object
from libagenttracer.system.discovery import Discovery
from libagenttracer.system.images import ImageFile
from libagenttracer.system.launch import Launched, launch
from libagenttracer.system.notices import configure
from libagenttracer.system.seen import SeenImage


@dataclass
class Attached:
    """What discovery had attached: path of each image, and when the (pretended) probes were in."""

    delay_s: float = 0.0
    times_ns: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)

    def __call__(self, image: ImageFile, found: list[Found]) -> None:
        assert all(item.points for item in found)
        assert os.path.exists(image.reach)
        if "/pytest" not in image.path:
            return  # a library of the system's that something happens to use
        time.sleep(self.delay_s)
        self.calls.append(image.path)
        self.times_ns[image.path] = time.monotonic_ns()
        self.came.set()


@dataclass
class Run:
    discovery: Discovery
    attached: Attached
    bpf: Object
    command: Launched | None

    def seen(self, path: object) -> SeenImage | None:
        found = [seen for seen in self.discovery.report() if seen.path == str(path)]
        assert len(found) < 2
        return found[0] if found else None


@contextmanager
def discovering(
    command: Sequence[str] = (),
    *,
    filter_: Filter | None = None,
    hold: bool = True,
    delay_s: float = 0.0,
    go: bool = True,
    wanted: Callable[[], Any] | None = None,
    **options: Any,
) -> Iterator[Run]:
    """Runs discovery for a command, which is let go, or a filter."""
    launched = launch(command) if command else None
    filter_ = filter_ or Filter()
    if launched is not None:
        filter_ = dataclasses.replace(filter_, pids=filter_.pids | {launched.pid}, follow_forks=True)
    tracking = Tracking(filter_, 1 << 20, launched=launched.pid if launched else None)
    hold = hold and launched is not None
    attached = Attached(delay_s)
    try:
        object_ = configure(tracking.join(open_object("discover")), hold=hold).load()
        try:
            tracking.start()
            discovery = Discovery(
                attached,
                wanted or tracking.matched_pids,
                object_=object_,
                launched=launched.pid if launched and hold else None,
                **options,
            )
            try:
                discovery.start()
                assert discovery.settle(20)
                if launched is not None and go:
                    launched.go()
                yield Run(discovery, attached, object_, launched)
            finally:
                discovery.close()
        finally:
            object_.close()
    finally:
        tracking.close()
        if launched is not None:
            launched.close()
            if launched.poll() is None:
                launched.send_signal(9)
                launched.wait()


def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Waits until something is true; fails if it takes too long."""
    end_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end_s, "it did not come true"
        time.sleep(0.01)
    return value
