"""A fleet in memory that gets what a real repository has."""

from __future__ import annotations

from typing import Self

import attrs

from ghostasync import GitSource, Plan, Report, deploy
from ghostasync import events as e
from ghostasync.testing import FakeHosts
from tests.sources.repos import Repo

__all__ = ["Committed"]


@attrs.define
class Committed:
    """A repository, the plan to deploy it, and what runs told."""

    plan: Plan
    repo: Repo
    hosts: FakeHosts = attrs.field(factory=FakeHosts)
    told: list[str] = attrs.field(factory=list)
    differs: list[e.Differs] = attrs.field(factory=list)

    @classmethod
    def create(cls, plan: Plan) -> Self:
        """Have the only module of *plan* come from a repository."""
        repo = Repo(plan.base / "repo")
        repo.path.mkdir()
        repo.git("init", "--quiet", "--initial-branch=main")
        source = GitSource(str(repo.path), "main")
        module = attrs.evolve(plan.modules[0], source=source)
        return cls(attrs.evolve(plan, modules=(module,)), repo)

    def commit(self, name: str) -> str:
        return self.repo.commit(name, index=name)

    async def deploy(
        self,
        rev: str = "",
        *,
        back: bool = False,
        force: bool = False,
        why: bool = False,
        limit: tuple[str, ...] = (),
    ) -> Report:
        def observe(record: e.Record) -> None:
            if isinstance(record.event, e.Warned):
                self.told.append(record.event.text)
            if isinstance(record.event, e.Differs):
                self.differs.append(record.event)

        return await deploy(
            self.plan,
            rev=rev,
            back=back,
            force=force,
            why=why,
            limit=limit,
            observe=observe,
            transport=self.hosts.transport,
        )
