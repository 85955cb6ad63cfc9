"""
Scripts for hosts: real ``.sh`` files, and how they are called.

The login shell, whatever it is, sees one constant line. The script comes first on
stdin, its arguments inside it, and its data follows: nothing stands in an argument
list, and no shell but ``/bin/sh`` parses anything of ours. Its output is framed by
lines with a random word, so that neither rc files nor children left behind confuse it.
The files on a host, each with its writer and its readers: ``LAYOUT.md``.
"""
