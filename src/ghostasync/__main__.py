"""``python -m ghostasync`` is the ``ghostasync`` command, and so is the script."""

from __future__ import annotations

import gc

__all__ = ["main"]


def main() -> None:
    """Import the command line and run it."""
    # Imports leave no garbage, and looking for it takes a tenth of their time. The
    # command line turns the collector on again before it runs the command.
    gc.disable()
    from .cli import main as command

    command()


if __name__ == "__main__":
    main()
