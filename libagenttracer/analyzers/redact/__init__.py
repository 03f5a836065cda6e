"""Credentials are replaced by fingerprints, wherever they stand in an event."""

from __future__ import annotations

from .analyzer import Redactor

__all__ = ["Redactor"]
