"""Four real hosts that serve version 1, and a version 2 to fail with."""

from __future__ import annotations

import attrs

from ghostasync import Plan, Verify
from tests.fleet.console import Console, Outcome
from tests.fleet.sample_app import SCRIPTS, SampleApp

__all__ = ["HOSTS", "ON_H3", "Stage"]

HOSTS = ("h1", "h2", "h3", "h4")
ON_H3 = '[ "$GHOST_HOST" != h3 ] || '


@attrs.define
class Stage:
    """A fleet that serves version 1, and a commit of version 2 to fail with."""

    sample: SampleApp
    console: Console
    plan: Plan
    first: Outcome

    @property
    def old(self) -> str:
        release: str = self.first.last["releases"]["site"]
        return release

    def change(self, **changes: object) -> None:
        """Deploy with another configuration from now on."""
        self.plan = attrs.evolve(self.plan, **changes)  # type: ignore[arg-type]  # keys
        self.console.configure(self.plan)

    def module(self, **changes: object) -> None:
        module = attrs.evolve(self.plan.modules[0], **changes)  # type: ignore[arg-type]  # keys
        self.change(modules=(module,))

    def script(self, key: str, line: str) -> None:
        """Give version 2 a script that begins with *line*."""
        head, _, rest = SCRIPTS[key].rpartition("set -eu\n")
        text = f"{head}set -eu\n{line}\n{rest}"
        self.sample.repositories["site"].script(key, text)

    def commit(self) -> None:
        self.sample.repositories["site"].commit("2")

    def fail(self, *args: str) -> Outcome:
        self.commit()
        return self.console.deploy(*args)

    def assert_old_serves(self, outcome: Outcome, *, exit_status: int = 1) -> None:
        """Check what every failure that was put right has in common."""
        assert outcome.exit == exit_status, outcome.stderr
        assert self.sample.serves("site") == dict.fromkeys(HOSTS, self.old)
        assert [line[1] for line in self.sample.manifest()] == [self.old]
        for host in HOSTS:
            assert self.sample.read(host, "site", "version") == b"1"
            assert self.sample.leftovers(host, "site") == set()
        lines = outcome.stderr.splitlines()
        assert 0 < len(lines) <= 8, outcome.stderr
        assert "Traceback" not in outcome.stderr

    def assert_recovers(self) -> None:
        """Check that the next good deploy is not in the way of anything."""
        for key in SCRIPTS:
            self.sample.repositories["site"].script(key, SCRIPTS[key])
        self.sample.repositories["site"].commit("3")
        self.module(verify=Verify())
        outcome = self.console.deploy()
        assert outcome.exit == 0, outcome.stderr
        assert set(self.sample.serves("site").values()) == {
            outcome.last["releases"]["site"]
        }
