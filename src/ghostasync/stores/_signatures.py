"""
What is signed in a store, and where its signatures are.

How it works. A statement is a few lines about a package, an environment or MANIFEST. It
is not kept: whoever asks makes it anew of what the store holds, and the signature lies
under the statement's digest, in ``signatures/``. So a signature is there for what was
signed, or for nothing; a writer without a key can take one away, and no more.

A package counts for one app, env, role, color and module, as all of it that reaches a
host or a script. An environment counts with its package. MANIFEST counts as a whole,
each line with its generation and the digest of the environment behind it: an older line
or another environment, though signed in its day, makes another MANIFEST.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from .._local.together import at_once
from ..errors import StoreError
from ..model import App, Package
from ..protocols import ActiveColor, Environment, ManifestLine
from . import _texts

if TYPE_CHECKING:
    # asyncssh is imported where something is signed, and there alone.
    from .trust import Trust

__all__ = ["Signatures", "SigningStore"]

Known = Callable[[str], Awaitable[Environment | None]]

_AT_ONCE: Final = 16
_TRIES: Final = 3
_PAUSE: Final = 0.3
"""Seconds between looks at a MANIFEST that may be about to move."""


@attrs.frozen(eq=False)
class Signatures:
    """
    The signatures of one store, asked for and made as *trust* says; None: not at all.

    *get* and *put* read and write what lies under a name in ``signatures/``.
    """

    trust: Trust | None
    get: Callable[[str], Awaitable[bytes | None]]
    put: Callable[[str, bytes], Awaitable[None]]
    _valid: set[str] = attrs.field(factory=set, init=False)

    @property
    def asks(self) -> bool:
        """Whether what is not signed is refused."""
        return self.trust is not None and self.trust.asks

    async def require_key(self) -> None:
        """Do nothing, unless something that is to be signed could not be: PlanError."""
        if self.trust is not None:
            await self.trust.require_key()

    async def keep_package(self, package: Package) -> None:
        """Sign a package that is about to be published."""
        await self._keep(_of_package, package)

    async def keep_gzip(self, package: Package, digest: str) -> None:
        """Sign that *digest* is the sha256 of a package's archive as gzip."""
        await self._keep(_of_gzip, package, digest)

    async def require_package(self, package: Package, where: str) -> None:
        """
        Do nothing, unless a package has to be signed and is not.

        Raises:
            StoreError: It is not, or by nobody who may.
        """
        await self._require(f"{package.id} in {where}", _of_package, package)

    async def require_environment(self, environment: Environment, where: str) -> None:
        """As :meth:`require_package`."""
        what = f"the environment of {environment.package} in {where}"
        await self._require(what, _of_environment, environment)

    async def keep_color(self, active: ActiveColor) -> None:
        """Sign the record of the active color that is about to be kept."""
        await self._keep(_of_color, active)

    async def require_color(self, active: ActiveColor, where: str) -> None:
        """As :meth:`require_package`."""
        await self._require(where, _of_color, active)

    async def keep_manifest(
        self,
        before: Sequence[ManifestLine],
        moved: Sequence[ManifestLine],
        environments: Sequence[Environment],
        known: Known,
    ) -> None:
        """
        Sign *environments* that are about to be kept, and then MANIFEST to be moved.

        *known* returns the environments of other packages.

        Raises:
            StoreError: What would be refused later cannot be signed.
        """
        if self.trust is None:
            return
        for each in environments:
            await self._keep(_of_environment, each)
        new = {each.package: each for each in environments}
        # MANIFEST as it is gets the new environments a moment before it moves.
        for lines in filter(None, (before, moved)):
            kept = await _environments(lines, known) | new
            await self._keep(_of_manifest, lines, kept)

    async def require_manifest(
        self, lines: Sequence[ManifestLine], known: Known, where: str
    ) -> None:
        """As :meth:`require_package`; a MANIFEST without a line needs no signature."""
        if self.trust is None or not self.trust.asks or not lines:
            return
        for left in reversed(range(_TRIES)):
            kept = await _environments(lines, known)
            try:
                await self._require(where, _of_manifest, lines, kept)
                break
            except StoreError:
                # Environments of several packages are replaced one after the other.
                if not left:
                    raise
                await anyio.sleep(_PAUSE)

    async def _keep(self, make: Callable[..., bytes], *values: object) -> None:
        if self.trust is not None and (self.trust.signs or self.trust.asks):
            statement = make(self.trust.app, *values)
            signature = await self.trust.sign(statement)
            await self.put(_name(statement), signature)

    async def _require(
        self, what: str, make: Callable[..., bytes], *values: object
    ) -> None:
        if self.trust is None or not self.trust.asks:
            return
        statement = make(self.trust.app, *values)
        name = _name(statement)
        if name in self._valid:
            return
        signature = await self.get(name)
        if signature is None:
            raise StoreError(
                f"{what} has no signature: it was changed, or made without store.sign; "
                "nothing is taken from there"
            )
        self.trust.verify(statement, signature, what)
        self._valid.add(name)


async def _environments(
    lines: Sequence[ManifestLine], known: Known
) -> dict[str, Environment]:
    found = await at_once(_AT_ONCE, known, [line.package for line in lines])
    return {each.package: each for each in found if each}


def _name(statement: bytes) -> str:
    return hashlib.sha256(statement).hexdigest()


def _of_package(app: App, package: Package) -> bytes:
    return _statement(
        *("package", app),
        f"module={package.module}",
        f"package={package.id}",
        f"archive={package.sha256}",
        f"manifest={package.manifest}",
        # All else that is known of the package: scripts see its commit.
        f"record={hashlib.sha256(_texts.dump(package)).hexdigest()}",
    )


def _of_gzip(app: App, package: Package, digest: str) -> bytes:
    return _statement(
        *("gzip", app),
        f"package={package.id}",
        f"archive={package.sha256}",
        f"gzip={digest}",
    )


def _of_environment(app: App, environment: Environment) -> bytes:
    return _statement(
        *("environment", app),
        f"package={environment.package}",
        f"environment={_digest(environment)}",
    )


def _of_color(app: App, active: ActiveColor) -> bytes:
    # Both colors have one record, so it is of neither.
    record = hashlib.sha256(_texts.dump(active)).hexdigest()
    return _statement("ACTIVE", attrs.evolve(app, color=""), f"record={record}")


def _of_manifest(
    app: App, lines: Sequence[ManifestLine], environments: Mapping[str, Environment]
) -> bytes:
    texts = _texts.join_manifest(lines).removesuffix("\n").split("\n")
    digests = (_digest(environments.get(line.package)) for line in lines)
    pairs = zip(texts, digests, strict=True)
    return _statement("MANIFEST", app, *(f"{text}:{digest}" for text, digest in pairs))


def _digest(environment: Environment | None) -> str:
    """Return the digest of what a store keeps of an environment; "-" for none."""
    if environment is None:
        return "-"
    return hashlib.sha256(_texts.dump_environment(environment)).hexdigest()


def _statement(kind: str, app: App, *lines: str) -> bytes:
    about = (
        f"ghostasync {kind} 1",
        f"app={app.name}",
        f"env={app.env}",
        f"role={app.role}",
        f"color={app.color}",
    )
    text = "".join(f"{line}\n" for line in (*about, *lines))
    return text.encode("utf-8", "surrogateescape")


class SigningStore:
    """The part of a store that is a :class:`protocols.SignedStore`."""

    _signatures: Signatures

    @property
    def asks_for_signatures(self) -> bool:
        """Whether what is not signed is refused."""
        return self._signatures.asks

    async def require_key(self) -> None:
        """
        Do nothing, unless what a run puts in could not be signed as it has to be.

        Raises:
            PlanError: No key signs, or none that counts.
        """
        await self._signatures.require_key()
