"""Calls of language models out of HTTP exchanges."""

from __future__ import annotations
