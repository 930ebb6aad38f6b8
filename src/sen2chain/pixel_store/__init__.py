"""Kept pixels of a layer on disk: positions on a grid, the file of one acquisition, and its compression."""

from __future__ import annotations
