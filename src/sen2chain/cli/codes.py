"""Exit codes of the command, which are documented."""

from __future__ import annotations

EXIT_ERROR, EXIT_USAGE, EXIT_NOTHING, EXIT_PARTLY, EXIT_BUSY = 1, 2, 3, 4, 5
EXIT_INTERRUPTED = 130  # as shells have it

INTERRUPTED = "Interrupted."
"""What the last of them says."""
