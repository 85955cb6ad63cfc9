"""
Write ``docs/reference.md``, the manual as one page.

    .venv/bin/python docs/reference.py
"""

from __future__ import annotations

from pathlib import Path

from ghostasync.manual import reference

if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(reference(), "utf-8")
