"""``python -m sen2chain.cli``: the command, where only the interpreter is known."""

import sys

from sen2chain.cli import run

sys.exit(run())
