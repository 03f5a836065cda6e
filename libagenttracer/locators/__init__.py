"""Where to probe in an ELF image: one module for each TLS stack. Pure: bytes in, probe points out."""

from __future__ import annotations

from .base import ProbePoint
from .openssl import locate_openssl

__all__ = ["ProbePoint", "locate_openssl"]
