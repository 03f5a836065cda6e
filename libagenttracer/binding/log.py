"""libbpf's messages: into `logging` (logger "libagenttracer.libbpf"), and into the errors they explain."""

from __future__ import annotations

import logging

from ._libbpf import ffi, lib

__all__ = ["start_log", "take_log"]

_LEVELS = {"0": logging.WARNING, "1": logging.INFO, "2": logging.DEBUG}
logger = logging.getLogger("libagenttracer.libbpf")


def start_log() -> None:
    """Begins to collect this thread's messages; what is left from before is dropped."""
    lib.lat_log_start(2 if logger.isEnabledFor(logging.DEBUG) else 0)
    lib.lat_log_free(lib.lat_log_take(ffi.new("size_t *")))


def take_log(*, failed: bool) -> str:
    """The messages since `start_log`, passed on to `logging`.

    Those of a failed operation are logged as DEBUG only: the error that is raised carries them.
    """
    size = ffi.new("size_t *")
    pointer = lib.lat_log_take(size)
    if pointer == ffi.NULL:
        return ""
    try:
        raw = bytes(ffi.buffer(pointer, size[0]))
    finally:
        lib.lat_log_free(pointer)
    messages = [part.decode(errors="replace") for part in raw.split(b"\0") if part]
    for message in messages:
        level = logging.DEBUG if failed else _LEVELS.get(message[0], logging.DEBUG)
        logger.log(level, "%s", message[1:].rstrip("\n"))
    return "".join(message[1:] for message in messages)
