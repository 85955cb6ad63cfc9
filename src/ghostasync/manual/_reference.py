"""The manual as one page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ._entries import GROUPS, Entry, entries

__all__ = ["reference"]


def reference() -> str:
    """Return every entry of the manual, as Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "`ghostasync explain WORD` says the same of one word. This page is written by"
    yield "`python docs/reference.py`, out of the code."
    for name, group in GROUPS.items():
        yield f"\n## {group.all}\n"
        if group.text:
            yield f"{_markdown(group.text)}\n"
        for entry in entries():
            if entry.group == name:
                yield from _entry(entry)


def _entry(entry: Entry) -> Iterator[str]:
    yield f"### `{entry.name}`\n"
    yield f"{_markdown(entry.text)}\n"
    for fact, text in entry.facts.items():
        yield f"- {fact}: " + (f"`{text}`" if fact == "default" else _markdown(text))
    if entry.facts:
        yield ""


def _markdown(text: str) -> str:
    # Angle brackets would be tags.
    return text.replace("<", "&lt;").replace("|", "\\|")
