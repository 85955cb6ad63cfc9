"""
Goals of runs, and all that follows from them.

Rule 1: a goal has only the fields that mean something for it, and refuses nonsense
when it is made. Rule 2: the engine never asks which goal it has. The engine asks the
questions below; a goal that leaves one without an answer cannot be made.

One file, though long: the answers of all goals can be compared here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import attrs

from .errors import PlanError
from .model import Action, Plan

__all__ = [
    "Converge",
    "Deploy",
    "Execute",
    "Goal",
    "Redeploy",
    "Resume",
    "Revert",
    "Rollback",
    "Swap",
]


class _Questions(ABC):
    """
    Questions that the engine, the builder and planning ask of a goal.

    Most goals answer with constants. A resumption answers as the run that it takes up.
    """

    @property
    @abstractmethod
    def action(self) -> Action:
        """
        The word that scripts see as ``GHOST_ACTION``, and that the journal has.

        Scripts of customers branch on it, so these few words are all there will be.
        """

    @property
    @abstractmethod
    def builds(self) -> bool:
        """
        Whether a module without a package is built from its source.

        Going to what was stored before must not bring what was committed since.
        """

    @property
    @abstractmethod
    def migrates(self) -> bool:
        """
        Whether before_switch may run: the run may bring a release for the first time.

        A release that served before has passed its before_switch; a second one would
        migrate a database again, and on the way back to a schema that is gone.
        """

    @property
    @abstractmethod
    def moves_manifest(self) -> bool:
        """
        Whether MANIFEST is to name what the fleet has been taken to.

        A converge follows MANIFEST, so it has nothing to say to it; after_all_deploy
        belongs to releases that are new to the fleet and is left out with it.
        """

    @property
    @abstractmethod
    def only_back(self) -> bool:
        """
        Whether hosts only go back, by their own records, and no release is made.

        Such a run has no second phase: once all hosts have been looked at, stopping it
        would leave a fleet at odds with itself.
        """

    @property
    @abstractmethod
    def callers_environment(self) -> bool:
        """
        Whether scripts see the caller's variables, and not those kept with a release.

        A release that comes back is to find what it ran with; the variables of today
        were written for the code of today.
        """

    @property
    @abstractmethod
    def recalls(self) -> bool:
        """
        Whether hosts go to releases that served them before, as their records say.

        Such a run asks hosts for what it needs, runs no script that a release has run
        there already but its post-deploy, stops for no host that is out of reach, and
        moves MANIFEST first: a host that boots must not get what is being left.
        """

    @property
    @abstractmethod
    def recorded_secrets(self) -> bool:
        """Whether scripts see the secrets that a release had when it served before."""

    @property
    @abstractmethod
    def force(self) -> bool:
        """
        Whether hosts that serve the release already are taken through it again.

        Only new releases can be forced: a converge that touched hosts in line would
        restart a healthy fleet whenever a host is added.
        """

    @property
    @abstractmethod
    def script(self) -> str:
        """
        The script that hosts run in place of getting a release; empty for all others.

        Such a run moves no link, so it has no number and no way back: hosts are
        checked, and run it wave by wave in the release that they serve.
        """

    @property
    @abstractmethod
    def active_color(self) -> str:
        """
        The color that is to get the visitors; empty where that is not what it is for.

        Such a run moves no link either: hosts of that color are put into their
        balancers, then those of the other one are taken out.
        """

    @property
    def stays(self) -> bool:
        """Whether hosts stay on the releases that they serve: no link moves."""
        return bool(self.script or self.active_color)


def _words(values: Iterable[str]) -> tuple[str, ...]:
    """Return a list of words; a lone string would be read as a list of its letters."""
    if isinstance(values, str):
        raise PlanError(f"{values!r} is one string; allowed: a list of strings")
    return tuple(values)


@attrs.frozen
class Deploy(_Questions):
    """
    Build modules, or take stored packages, and bring them to the fleet.

    *modules* are names or ``name@rev``, all of the plan's by default; *rev* is for
    those without their own and needs one repository; *packages* name stored packages
    to take instead of building, by id or commit, or how one begins; *force* deploys
    what is live already. *back* allows a commit that is older than what serves. With
    *why* the run says by what each release differs from the one that hosts serve.
    """

    action: ClassVar = Action.DEPLOY
    builds: ClassVar = True
    migrates: ClassVar = True
    moves_manifest: ClassVar = True
    only_back: ClassVar = False
    callers_environment: ClassVar = True
    recalls: ClassVar = False
    recorded_secrets: ClassVar = False
    script: ClassVar = ""
    active_color: ClassVar = ""

    modules: tuple[str, ...] = attrs.field(default=(), converter=_words)
    rev: str = ""
    packages: tuple[str, ...] = attrs.field(default=(), converter=_words)
    force: bool = False
    back: bool = False
    why: bool = False

    def __attrs_post_init__(self) -> None:
        revs: dict[str, str] = {}
        for word in self.modules:
            name, at, rev = word.partition("@")
            if not name or (at and not rev):
                raise PlanError(f"deploy: {word!r} is no MODULE and no MODULE@REV")
            if revs.setdefault(name, rev) != rev:
                raise PlanError(
                    f"deploy: {name} is named twice, at different revisions"
                )


@attrs.frozen
class Redeploy(_Questions):
    """
    Bring stored *packages* to the fleet, one for each module; nothing is built.

    Each is named by its id, its commit, or how one begins. A run, by its id or how that
    begins, stands for all packages that it had released.
    """

    # A stored package may be new to this fleet, so it migrates like a deploy.
    action: ClassVar = Action.REDEPLOY
    builds: ClassVar = False
    migrates: ClassVar = True
    moves_manifest: ClassVar = True
    only_back: ClassVar = False
    callers_environment: ClassVar = True
    recalls: ClassVar = False
    recorded_secrets: ClassVar = False
    script: ClassVar = ""
    active_color: ClassVar = ""

    packages: tuple[str, ...] = attrs.field(converter=_words)
    force: bool = False

    def __attrs_post_init__(self) -> None:
        if not all(self.packages) or not self.packages:
            raise PlanError("redeploy: name a run or packages; ghostasync history does")


@attrs.frozen
class Converge(_Questions):
    """Bring hosts to what MANIFEST says; those in line are left alone."""

    # A release that MANIFEST names has migrated, and its variables are kept with it: a
    # new host gets what the others have, whoever asks for it.
    action: ClassVar = Action.CONVERGE
    builds: ClassVar = False
    migrates: ClassVar = False
    moves_manifest: ClassVar = False
    only_back: ClassVar = False
    callers_environment: ClassVar = False
    recalls: ClassVar = False
    recorded_secrets: ClassVar = False
    force: ClassVar = False
    script: ClassVar = ""
    active_color: ClassVar = ""


@attrs.frozen
class Execute(_Questions):
    """
    Run *script* on every host that gets *module*, in the release that it serves.

    *module* may be left out where the plan has one.
    """

    # MANIFEST's variables, as for a converge: whoever looks into a fleet sees what its
    # releases see.
    action: ClassVar = Action.EXEC
    builds: ClassVar = False
    migrates: ClassVar = False
    moves_manifest: ClassVar = False
    only_back: ClassVar = False
    callers_environment: ClassVar = False
    recalls: ClassVar = False
    recorded_secrets: ClassVar = False
    force: ClassVar = False
    active_color: ClassVar = ""

    script: str
    module: str = ""

    def __attrs_post_init__(self) -> None:
        if not self.script.strip():
            raise PlanError(
                "exec: there is no script: say --script FILE, or -- COMMAND"
            )
        if "\0" in self.script:
            raise PlanError("exec: the script has a NUL byte: it is no text")


@attrs.frozen
class Rollback(_Questions):
    """
    Take hosts back to what they served before.

    *run*: undo that run; *to*: go to these releases, one for each module. Without
    either, undo the newest run that stands. With *remove* the links of modules go that
    the run had brought. With *recorded_secrets* scripts see the secrets that the
    release had, and not those of today. *past_migrations* goes back past a
    before_switch that has no way back. *agreed* is the run that a person was shown:
    where another one is the newest by now, nothing is undone.
    """

    # The older release has migrated long ago. MANIFEST moves with the fleet, or the
    # next host to boot would bring back the release that was rolled away from.
    action: ClassVar = Action.ROLLBACK
    builds: ClassVar = False
    migrates: ClassVar = False
    moves_manifest: ClassVar = True
    only_back: ClassVar = False
    callers_environment: ClassVar = False
    recalls: ClassVar = True
    force: ClassVar = False
    script: ClassVar = ""
    active_color: ClassVar = ""

    run: str = ""
    to: tuple[str, ...] = attrs.field(default=(), converter=_words)
    remove: bool = False
    recorded_secrets: bool = False
    past_migrations: bool = False
    agreed: str = ""

    def __attrs_post_init__(self) -> None:
        if self.remove and self.to:
            raise PlanError("rollback: --remove is for undoing a run, not with --to")
        if self.run and self.to:
            raise PlanError("rollback: say RUN or --to RELEASE, not both")


@attrs.frozen
class Resume(_Questions):
    """
    Finish a run whose controller was killed; *run* is its id, the newest by default.

    Once planning has found that run, *of* is what it was for: questions are answered as
    it would have answered them. Only scripts are told that this is a resumption.
    """

    # A killed run on its way back is taken up as a Revert, so this goal goes forward.
    # Its scripts see the variables that were kept when the run began.
    action: ClassVar = Action.RESUME
    only_back: ClassVar = False
    callers_environment: ClassVar = False
    script: ClassVar = ""
    active_color: ClassVar = ""

    run: str = ""
    of: Deploy | Redeploy | Converge | Rollback = Deploy()

    @property
    def builds(self) -> bool:
        """Whether the killed run built."""
        return self.of.builds

    @property
    def migrates(self) -> bool:
        """Whether the killed run migrated: a resumed rollback is a rollback."""
        return self.of.migrates

    @property
    def moves_manifest(self) -> bool:
        """Whether the killed run was to move MANIFEST."""
        return self.of.moves_manifest

    @property
    def recalls(self) -> bool:
        """Whether the killed run was a rollback."""
        return self.of.recalls

    @property
    def recorded_secrets(self) -> bool:
        """Whether the killed run took the secrets of then."""
        return self.of.recorded_secrets

    @property
    def force(self) -> bool:
        """Whether the killed run was forced."""
        return self.of.force


@attrs.frozen
class Revert(_Questions):
    """
    Put every host back to what it served before a run whose controller was killed.

    *run* is its id, the newest that is unfinished by default.
    """

    # Scripts that run on the way back see a rollback, whether a run takes itself back
    # or a person has asked for it.
    action: ClassVar = Action.ROLLBACK
    builds: ClassVar = False
    migrates: ClassVar = False
    moves_manifest: ClassVar = True
    only_back: ClassVar = True
    callers_environment: ClassVar = False
    recalls: ClassVar = False
    recorded_secrets: ClassVar = False
    force: ClassVar = False
    script: ClassVar = ""
    active_color: ClassVar = ""

    run: str = ""


@attrs.frozen
class Swap(_Questions):
    """
    Have the other color be the active one, or the one that is named.

    *other* is the plan of the other color; *active_color* is empty until planning has
    found out which color is active now.
    """

    # Once hosts of both colors are locked, nothing about their releases changes.
    action: ClassVar = Action.SWAP
    builds: ClassVar = False
    migrates: ClassVar = False
    moves_manifest: ClassVar = False
    only_back: ClassVar = False
    callers_environment: ClassVar = False
    recalls: ClassVar = False
    recorded_secrets: ClassVar = False
    force: ClassVar = False
    script: ClassVar = ""

    other: Plan
    active_color: str = ""

    def __attrs_post_init__(self) -> None:
        if self.active_color not in {"", "blue", "green"}:
            raise PlanError(f"swap --to {self.active_color}: allowed: blue or green")


Goal = Deploy | Redeploy | Converge | Execute | Resume | Revert | Rollback | Swap
