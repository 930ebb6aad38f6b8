"""The documented exit codes of the command."""

from __future__ import annotations

EXIT_ERROR, EXIT_USAGE, EXIT_NOTHING, EXIT_PARTLY, EXIT_BUSY, EXIT_UNUSABLE = 1, 2, 3, 4, 5, 6
EXIT_INTERRUPTED = 130  # as shells have it

INTERRUPTED = "Interrupted."
"""Message of `EXIT_INTERRUPTED`."""
