"""People who deploy to one fleet, each from a machine with a clock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ghostasync import Plan, Rollout
from tests.fleet.console import Console, Outcome
from tests.fleet.running import Running
from tests.fleet.sample_app import SECRET, SampleApp

__all__ = ["Person", "Town"]


@attrs.define
class Person:
    """Somebody with a machine, a configuration, and perhaps a store of their own."""

    name: str
    town: Town
    sample: SampleApp
    console: Console
    plan: Plan

    def change(self, **changes: object) -> None:
        """Have another configuration from now on."""
        self.plan = attrs.evolve(self.plan, **changes)  # type: ignore[arg-type]  # keys
        self.console.configure(self.plan)

    def module(self, **changes: object) -> None:
        first, *others = self.plan.modules
        first = attrs.evolve(first, **changes)  # type: ignore[arg-type]  # keys
        self.change(modules=(first, *others))

    def variables(self, **variables: str) -> None:
        app = attrs.evolve(self.plan.app, env_vars=variables)
        self.change(app=app)

    # --- What people type ----------------------------------------------------------

    def __call__(self, *args: str, **env: str) -> Outcome:
        """Run a command as machines read it."""
        return self.console(*args, "--output", "json", **env)

    def read(self, *args: str) -> Outcome:
        """Run a command as people read it."""
        return self.console(*args)

    def types(self, command: str) -> Outcome:
        """Run a command that was advised."""
        program, *words = command.split()
        assert program == "ghostasync"
        return self(*words)

    def tries(self, version: str, *args: str, **env: str) -> Outcome:
        """Deploy a new version, and have the town know what it was."""
        self.town.commit(version)
        return self.town.note(version, self("deploy", *args, **env))

    def deploys(self, version: str, *args: str, **env: str) -> Outcome:
        outcome = self.tries(version, *args, **env)
        assert outcome.exit == 0, outcome.stderr
        return outcome

    def dies(self, *args: str, after: str, host: str) -> str:
        """Run a command that is killed at once after an event; return the run."""
        words = (*args, "--output", "json")
        with self.console.running(*words) as process:
            running = Running(process)
            running.until(after, host)
            run = running.run
            process.kill()
            self.town.note("", running.finish(20))
        return run

    # --- What is true here -----------------------------------------------------------

    @property
    def manifest(self) -> dict[str, str]:
        """The version that this person's MANIFEST names, by module."""
        store = Path(self.plan.store.url) / "shop/prod/web/blue/MANIFEST"
        lines = store.read_text().splitlines() if store.exists() else []
        fields = [line.split(":") for line in lines]
        return {line[0]: self.town.versions[line[1]] for line in fields}

    @property
    def status(self) -> Outcome:
        return self.read("status")


@attrs.define
class Town:
    """
    The fleet, and the people who deploy to it.

    *versions* says of each release which version of the repository it was made of.
    """

    sample: SampleApp
    versions: dict[str, str] = attrs.field(factory=dict)

    def moves_in(
        self,
        name: str,
        *,
        hours: int = 0,
        shares: Person | None = None,
        secrets: Mapping[str, str] = {"TOKEN": SECRET},
        modules: Iterable[str] = ("site",),
    ) -> Person:
        """
        Return somebody new, with an empty store, or that of the person who *shares*.

        *hours* are those that their clock is ahead.
        """
        home = self.sample.folder / name
        home.mkdir()
        sample = attrs.evolve(self.sample, folder=home)
        env = {**secrets, "LOGNAME": name}
        plan = sample.plan(*map(sample.module, modules), rollout=Rollout(waves=(1,)))
        if shares:
            plan = attrs.evolve(plan, store=shares.plan.store)
        person = Person(name, self, sample, Console(sample, env, hours), plan)
        person.change()
        return person

    def commit(self, version: str) -> None:
        for repository in self.sample.repositories.values():
            repository.commit(version)

    def note(self, version: str, outcome: Outcome) -> Outcome:
        """Learn which releases a run made."""
        version = version or self.newest
        for event in whole(outcome):
            if event["event"] == "Packaged":
                self.versions.setdefault(event["package"], version)
        return outcome

    @property
    def newest(self) -> str:
        """The version that was committed last."""
        first = next(iter(self.sample.repositories.values()))
        return (first.path / "version").read_text()

    def release(self, version: str, module: str = "site") -> str:
        """Return the release that a version of a module has become."""
        (found,) = [
            release
            for release, made_of in self.versions.items()
            if made_of == version and f"_{module}_" in release
        ]
        return found

    def serves(self, module: str = "site") -> dict[str, str]:
        """Return the version that each host serves, as a visitor sees it."""
        seen = {}
        for host, release in self.sample.serves(module).items():
            if release:
                seen[host] = self.sample.read(host, module, "version").decode()
                assert self.versions[release] == seen[host]
        return seen

    def all_on(self, version: str) -> dict[str, str]:
        return {host.name: version for host in self.sample.fleet.hosts}

    @property
    def links(self) -> list[tuple[str, int]]:
        """What would change if anything moved a link, were it to the same release."""
        paths = [
            self.sample.fleet.path(host.name, "/srv/site")
            for host in self.sample.fleet.hosts
        ]
        return [(str(path.readlink()), path.lstat().st_ino) for path in paths]


def whole(outcome: Outcome) -> list[dict[str, Any]]:  # JSON
    return outcome.events if outcome.stdout else []
