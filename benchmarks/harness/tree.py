"""A web application that nobody wrote: the same files, byte for byte, everywhere."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Final

import attrs

__all__ = ["FILES", "NBYTES", "make_tree"]

FILES: Final = 4800
NBYTES: Final = 51_000_000

MTIME: Final = 1_700_000_000

WORDS: Final = (
    *("account", "address", "admin", "amount", "author", "basket", "cache", "cart"),
    *("category", "check", "client", "comment", "config", "content", "context"),
    *("country", "created", "currency", "customer", "delete", "detail", "discount"),
    *("email", "error", "export", "field", "filter", "form", "handler", "header"),
    *("image", "import", "index", "invoice", "item", "label", "language", "layout"),
    *("list", "login", "manager", "message", "method", "model", "module", "name"),
    *("number", "object", "option", "order", "page", "parent", "password", "payment"),
    *("permission", "price", "product", "profile", "query", "record", "region"),
    *("report", "request", "response", "result", "review", "schema", "search"),
    *("section", "session", "setting", "shipping", "status", "stock", "store"),
    *("string", "table", "template", "token", "update", "user", "value", "vendor"),
)

SHARED_LINES: Final = 0.7
"""What part of a file's lines is found in other files too."""


@attrs.frozen
class Kind:
    """Files of one sort: how often, where, how large at the median, of what lines."""

    weight: int
    suffix: str
    folder: str
    median: int
    spread: float
    lines: tuple[str, ...] = ()


KINDS: Final = (
    Kind(58, ".py", "app", 3600, 1.2, (
        "from {a}.{b} import {c}, {d}\n",
        "class {a}_{b}({c}):\n",
        "    def {a}_{b}(self, {c}, {d}=None):\n",
        "        self.{a} = {b}.{c}({d}, {n})\n",
        "        if {a}.{b} is not None and {c} > {n}:\n",
        "            return [{a} for {a} in {b}.{c} if {a}.{d}]\n",
        '    """The {a} of the {b}, by {c} and {d}."""\n',
        '        raise ValueError(f"{a} {{{b}}}: no {c} in {d}")\n',
        "\n",
    )),
    Kind(18, ".html", "templates", 2400, 1.0, (
        '<div class="{a}-{b}"><span id="{c}{n}">{{{{ {d}.{a} }}}}</span></div>\n',
        "{{% for {a} in {b}.{c} %}}<li>{{{{ {a}.{d} }}}}</li>{{% endfor %}}\n",
        '<a href="{{% url \'{a}:{b}\' {c} %}}">The {d} of your {a}</a>\n',
        "<p>Your {a} has {n} {b}. See the {c} for a {d}.</p>\n",
    )),
    Kind(10, ".js", "static/js", 6500, 1.3, (
        "  const {a} = {b}.{c}({d}, {n});\n",
        "export function {a}_{b}({c}, {d}) {{\n",
        '  if ({a}.{b} === "{c}") {{ return {d}[{n}]; }}\n',
        "}}\n",
    )),
    Kind(5, ".css", "static/css", 5200, 1.0, (
        ".{a}-{b} .{c} {{ margin: {n}px; color: #{n:06x}; }}\n",
        "#{a} > .{b}:hover {{ width: {n}%; padding: 0 {n}px; }}\n",
    )),
    Kind(5, ".po", "locale", 9000, 1.1, (
        'msgid "The {a} of the {b} has {n} {c}"\n',
        'msgstr "{d} {a} {c} {b} ({n})"\n',
        "\n",
    )),
    Kind(4, ".jpg", "static/img", 12000, 0.8),
)  # fmt: skip


def make_tree(
    folder: Path, *, files: int = FILES, nbytes: int = NBYTES, seed: int = 7
) -> None:
    """
    Write *files* files, *nbytes* bytes in all, into the new folder *folder*.

    Sizes are log-normal; text compresses as source code does, images do not.
    """
    rng = random.Random(seed)
    kinds = rng.choices(KINDS, [kind.weight for kind in KINDS], k=files)
    raw = [kind.median * rng.lognormvariate(0, kind.spread) for kind in kinds]
    scale = nbytes / sum(raw)
    sizes = [int(size * scale) for size in raw]
    sizes[-1] += nbytes - sum(sizes)
    pools = {kind.suffix: _lines(rng, kind, 4000) for kind in KINDS if kind.lines}
    folders: set[Path] = set()
    for number, (kind, size) in enumerate(zip(kinds, sizes, strict=True)):
        parts = (kind.folder, rng.choice(WORDS[:40]), rng.choice(WORDS[40:43]))
        parent = folder.joinpath(*parts)
        if parent not in folders:
            parent.mkdir(parents=True)
            folders.add(parent)
        path = parent / f"{rng.choice(WORDS)}_{number}{kind.suffix}"
        path.write_bytes(_content(rng, kind, size, pools))
        os.utime(path, (MTIME, MTIME))
    for root, _, _ in os.walk(folder):
        os.utime(root, (MTIME, MTIME))


def _content(
    rng: random.Random, kind: Kind, size: int, pools: dict[str, list[str]]
) -> bytes:
    if not kind.lines:
        return rng.randbytes(size)
    count = size // 25 + 1  # lines are longer than that, so this is enough
    shared = int(count * SHARED_LINES)
    lines = rng.choices(pools[kind.suffix], k=shared) + _lines(
        rng, kind, count - shared
    )
    rng.shuffle(lines)
    text = "".join(lines).encode()
    while len(text) < size:
        text += text
    return text[:size]


def _lines(rng: random.Random, kind: Kind, count: int) -> list[str]:
    templates = rng.choices(kind.lines, k=count)
    words = rng.choices(WORDS, k=4 * count)
    return [
        template.format(
            a=words[at], b=words[at + 1], c=words[at + 2], d=words[at + 3], n=at % 997
        )
        for at, template in zip(range(0, 4 * count, 4), templates, strict=True)
    ]
