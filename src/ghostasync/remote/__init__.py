"""
What runs on a host: real ``.sh`` files, and how they are called.

The login shell, whatever it is, sees one constant line. The script comes first on
stdin, its arguments inside it, and what it reads follows: nothing stands in an argument
list, and no shell but ``/bin/sh`` parses anything of ours. Its output is framed by
lines with a random word, so that neither rc files nor children left behind confuse it.
"""

from __future__ import annotations

from ._call import call, hold, query, supervise
from ._facts import Facts, Identity, Switch, Target, parse_facts, parse_identity
from ._frame import Frame
from ._guard import Guarded
from ._script import LOST, Fence, as_user, command_line, quote, render, timer

__all__ = [
    "LOST",
    "Facts",
    "Fence",
    "Frame",
    "Guarded",
    "Identity",
    "Switch",
    "Target",
    "as_user",
    "call",
    "command_line",
    "hold",
    "parse_facts",
    "parse_identity",
    "query",
    "quote",
    "render",
    "supervise",
    "timer",
]
