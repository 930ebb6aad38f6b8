"""The documented exit codes of the command."""

from __future__ import annotations

EXIT_ERROR, EXIT_USAGE, EXIT_NOTHING, EXIT_PARTLY, EXIT_BUSY = 1, 2, 3, 4, 5
EXIT_INTERRUPTED = 130  # as shells have it

INTERRUPTED = "Interrupted."
"""Message of `EXIT_INTERRUPTED`."""
