"""Facts of a host, as values; ``answers`` reads them from what scripts print."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs

from .activation import Activation

__all__ = ["Facts", "Identity", "ModuleState", "Trial"]


@attrs.frozen
class Identity:
    """The user of a login; *sudo* is what ``sudo -n`` printed where it failed."""

    home: str
    uid: int
    user: str
    sudo: str = ""


@attrs.frozen
class ModuleState:
    """
    The state of one module on a host.

    *kind* is absent, link, directory or file; *link* the text of the link; *live* the
    id of the release it leads to, empty where it leads elsewhere; *dangling* whether
    that release is gone. *fingerprint* is that of the live release, once it was proven;
    *unwritable* the folder that keeps the target from being replaced. *activations* are
    the newest of the host's records, the newest first. *aside* is whether an adopted
    folder was moved aside by the newest one and is still there. *elsewhere* are links
    of earlier targets that lead to releases of the module as well. *scripts* maps
    *releases* to the names of the scripts that they have, and ``environment`` where one
    has served there.
    """

    kind: str = "absent"
    link: str = ""
    live: str = ""
    dangling: bool = False
    fingerprint: str = ""
    unwritable: str = ""
    releases: frozenset[str] = frozenset()
    activations: tuple[Activation, ...] = ()
    aside: bool = False
    elsewhere: tuple[str, ...] = ()
    scripts: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    @property
    def record(self) -> Activation | None:
        """The record of the move to *live*; None where somebody else moved the link."""
        if self.kind == "absent" and self.aside and self.activations:
            # A switch was killed after it had moved an adopted folder aside.
            return self.activations[0]
        return next(
            (
                record
                for record in self.activations
                if record.release == self.live and record.outcome != "reverted"
            ),
            None,
        )

    @property
    def foreign(self) -> str:
        """What is at the target and not ours, in words; empty where nothing is."""
        # A link of another tool is as little ours to replace as a folder is.
        if self.kind == "link":
            return "" if self.live else f"a link to {self.link}"
        return f"a {self.kind}" if self.kind in {"directory", "file"} else ""

    def was_moved_by(self, ids: Collection[str]) -> bool:
        """
        Tell whether a run has moved the link, and did not take that back.

        *ids* are that run's and those of the runs whose work it took up.
        """
        # A record is written before the link moves. It is proven by the link, or by a
        # later move away from its release.
        mine = [
            move
            for move in self.activations
            if move.run in ids and move.outcome != "reverted"
        ]
        # A later run may have found that release in line, and have noted so.
        by_run = self.record is not None and self.record.run in ids
        return by_run or any(
            move.release == self.live or self.was_left(move, ids) for move in mine
        )

    def was_left(self, move: Activation, but: Collection[str] = ()) -> bool:
        """
        Tell whether the next run after *move*, none of *but*, has found its release.

        What an earlier one found proves nothing: *move* may go back to that.
        """
        later = [
            each
            for each in self.activations
            if each.generation > move.generation and each.run not in but
        ]
        return bool(later) and later[-1].previous.rpartition("/")[2] == move.release

    def overtaken(
        self, generation: int, ids: Collection[str], then: Collection[str], store: str
    ) -> bool:
        """
        Tell whether another run has moved the link since the run numbered *generation*.

        *ids* are that run's and those of the runs whose work it took up; *then* are the
        releases that it found there or brought there, none where that is not known.
        *store* is its store's own word.
        """
        if any(
            move.generation > generation
            and move.run not in ids
            and (move.outcome == "live" or move is self.record)
            for move in self.activations
        ):
            return True
        if self.record is None or self.record.run in ids:
            return False
        # Another store gives numbers of its own, so what it brought may be later,
        # whatever its number.
        return self.live not in then if then else self.record.store != store


@attrs.frozen
class Facts:
    """
    The facts of a host; free space in bytes and inodes, None where unknown.

    *tools* are the programs found, of those that are asked for; *rename* the one that
    can rename(2) a link. *holder* is the line that the lock is held under, empty where
    nobody holds it. *place* is the same only where two names lead to one app folder of
    one machine; empty where unknown. *ends_logins* is whether logind ends the processes
    that a login leaves running, timers among them. *instance* tells this machine from a
    copy of it. *fence* is the highest number of a run that was to move links here, None
    where the host's file is damaged. *frozen* says who has frozen the app there.
    *closed* are folders of records that the user who works there may not read, each
    with its owner. *foreign* is what others may change on the way there: how, who
    and the folder, as ``parts/owners.sh`` tells it. *untried* is why no file could be
    made where the app is to be.
    """

    uid: int
    gid: int
    tools: frozenset[str]
    rename: str
    unwritable: str
    free_bytes: int | None
    free_inodes: int | None
    targets: Mapping[str, ModuleState]
    holder: str = ""
    place: str = ""
    ends_logins: bool = False
    instance: str = ""
    fence: int | None = 0
    closed: tuple[tuple[str, str], ...] = ()
    foreign: tuple[tuple[str, str, str], ...] = ()
    frozen: str = ""
    untried: str = ""

    @property
    def highest(self) -> int:
        """The highest number of a run that the host knows."""
        moves = (m for target in self.targets.values() for m in target.activations)
        return max([self.fence or 0, *(move.generation for move in moves)])


@attrs.frozen
class Trial:
    """
    What a host has tried for scripts, as ``try.sh`` or ``environment.sh`` tell it.

    *tmp* is the error of a file for temporary data, behind the folder's name. *unfit*
    maps scripts to why they cannot be started, *noexec* maps those that are started as
    files to the disk that allows no such start; so does the name "" for any program.
    """

    tmp: str = ""
    unfit: Mapping[str, str] = attrs.field(factory=dict)
    noexec: Mapping[str, str] = attrs.field(factory=dict)
