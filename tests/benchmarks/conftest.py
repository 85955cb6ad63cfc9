from __future__ import annotations

from tests.fleet.conftest import sshd

__all__ = ["sshd"]
