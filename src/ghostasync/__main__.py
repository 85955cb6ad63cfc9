"""``python -m ghostasync`` is the ``ghostasync`` command."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
