"""``python -m sen2chain.cli``: the command, where only the interpreter is known."""

from sen2chain.cli import main

main(prog_name="sen2chain")
