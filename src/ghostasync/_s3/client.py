"""
Some calls to a bucket, for all of ghostasync.

How it works. The client is made at the first call. It tries calls again that may
succeed then, and so does the HTTP library below it, without being asked: a PUT whose
answer was lost is sent a second time. Every conditional write therefore carries a
nonce, by which the object that is there afterwards is told to be ours or another's.

Every failure is a :class:`~ghostasync.errors.StoreError` of one line: what was asked,
of which object, what is wrong, what to do.

One file, though long: all that is known of how S3 is called.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs

from .._aws.maker import client_maker
from .._local.together import at_once
from ..errors import StoreError
from ..model import StoreSettings
from .errors import BodyLost, Conflict, Missing, explained, refused, store_time

__all__ = ["Bucket", "Entry", "Object"]

CHUNK: Final = 1 << 20
"""Bytes that are read from an answer at a time."""

PART: Final = 16 << 20
"""Bytes of an object that is sent in one piece; a larger one is sent in such parts."""

TRIES: Final = 6
"""Attempts of a call that may succeed later, and to read an answer to its end."""

PARTS_AT_ONCE: Final = 4
"""Parts of one object on their way at once."""

_CONFLICT_PAUSE: Final = 0.1
"""Seconds after which a store that was busy with the same object is asked again."""

_CUT: Final = {"ClientPayloadError", "ContentLengthError", "ResponseParserError"}
_LONGEST: Final = 7 * 86_400
"""Seconds for which an address can be signed."""

_DELETED_AT_ONCE: Final = 1000
_ABORT_SECONDS: Final = 10
_CLOSE_SECONDS: Final = 5


@attrs.frozen
class Object:
    """
    An object as it was read.

    *etag* is opaque; *nonce* is the word of the write that made it, empty where that
    was no conditional one.
    """

    data: bytes = attrs.field(repr=False)
    etag: str
    nonce: str


@attrs.frozen
class Entry:
    """
    An object as a listing has it.

    *key* is relative to the prefix of the bucket; *age* is in seconds, by the store's
    clock alone. *etag* is opaque, *modified* is in seconds since 1970. *version* is
    empty in a listing, and where the bucket keeps none.
    """

    key: str
    nbytes: int
    age: float
    etag: str
    modified: float
    version: str = ""


class Bucket:
    """
    The objects whose keys begin with the path of *url*, in the bucket of its host.

    Keys are relative to that path. The connection is made when it is needed and stays
    open; :meth:`aclose` ends it.
    """

    def __init__(self, url: str, settings: StoreSettings) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._name, self._settings = bucket, settings
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._stack = AsyncExitStack()
        self._opening = anyio.Lock()
        self._open: Any = None

    def address(self, key: str = "") -> str:
        """Return the full address of *key*, for people."""
        return f"s3://{self._name}/{self._prefix}{key}"

    def above(self) -> Bucket:
        """Return the folder that this one is in; it has a connection of its own."""
        folder = self._prefix.rstrip("/").rpartition("/")[0]
        return Bucket(f"s3://{self._name}/{folder}", self._settings)

    async def aclose(self) -> None:
        """Give the connection back; the next call makes another one."""
        stack, self._stack, self._open = self._stack, AsyncExitStack(), None
        # A caller that was cancelled leaves no connection open either.
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await stack.aclose()

    # --- Reading ----------------------------------------------------------------

    async def get(self, key: str) -> Object | None:
        """Return a small object; None where there is none."""
        for left in reversed(range(TRIES)):
            try:
                answer = await self._call("get_object", key)
                data = b"".join([chunk async for chunk in self._body(answer, key)])
                return Object(data, answer["ETag"], _nonce(answer))
            except Missing:
                return None
            except BodyLost:
                # The library tries calls again, but not the reading of an answer.
                if not left:
                    raise
        raise AssertionError("unreachable: each try returns or raises")

    async def look(self, key: str, version: str = "") -> Entry | None:
        """Return what is known of an object, or of a version of it; None: not there."""
        # An answer to HEAD has no text: nobody could tell a wrong key from a missing
        # bucket.
        try:
            how: dict[str, Any] = {"VersionId": version} if version else {}
            answer = await self._call("get_object", key, **how)
        except Missing:
            return None
        answer["Body"].close()
        # A server without versions may answer with what it has.
        if version and answer.get("VersionId", "null") != version:
            return None
        modified = answer["LastModified"].timestamp()
        age = store_time(answer["ResponseMetadata"]["HTTPHeaders"]) - modified
        about = answer["ContentLength"], age, answer["ETag"], modified
        return Entry(key, *about, answer.get("VersionId", ""))

    async def download(
        self,
        key: str,
        path: Path,
        *,
        wanted: Entry | None = None,
        heard: Callable[[int], None] = lambda _: None,
    ) -> str:
        """
        Write an object to the new file *path*, and return its sha256.

        An answer that ends early is asked for again from there on.

        Args:
            key: The object.

            path: The file.

            wanted: The object as it was; another one in its place is refused.

            heard: Called with the number of bytes that have come.

        Raises:
            FileNotFoundError: There is no such object.
            OSError: The file cannot be written.
            Conflict: It is not the one that is wanted any more.
            StoreError: The object could not be had.
        """
        digest, at, left = hashlib.sha256(), 0, TRIES
        exact: dict[str, Any] = {}
        if wanted and wanted.version:
            exact["VersionId"] = wanted.version
        async with await anyio.open_file(path, "xb") as file:
            while True:
                rest: dict[str, Any] = {"Range": f"bytes={at}-"} if at else {}
                try:
                    answer = await self._call("get_object", key, **exact, **rest)
                    # Not every server knows a condition, but all say what they send.
                    if wanted and answer["ETag"] != wanted.etag:
                        answer["Body"].close()
                        raise Conflict(f"GetObject {self.address(key)}: another one")
                    async for chunk in self._body(answer, key):
                        await file.write(chunk)
                        digest.update(chunk)
                        heard(len(chunk))
                        at, left = at + len(chunk), TRIES
                except Missing:
                    raise FileNotFoundError(self.address(key)) from None
                except BodyLost:
                    left -= 1
                    if not left:
                        raise
                else:
                    return digest.hexdigest()

    async def _body(self, answer: Mapping[str, Any], key: str) -> AsyncGenerator[bytes]:
        try:
            async for chunk in answer["Body"].iter_chunks(CHUNK):
                yield chunk
        except Exception as exc:
            text = f"GetObject {self.address(key)}: the answer ended early"
            raise BodyLost(text) from exc
        finally:
            answer["Body"].close()

    async def presigned(self, key: str, seconds: float) -> str:
        """Return a URL by which anybody can read an object for *seconds*."""
        what = f"GetObject {self.address(key)}"
        place = {"Bucket": self._name, "Key": self._prefix + key}
        try:
            client = await self._client()
            url: str = await client.generate_presigned_url(
                "get_object", Params=place, ExpiresIn=round(min(seconds, _LONGEST))
            )
        except StoreError:
            raise
        except Exception as exc:
            raise explained(exc, what) from exc
        return url

    async def listed(self, folder: str) -> list[Entry]:
        """Return all objects whose keys begin with *folder*, in the order of keys."""
        found: list[Entry] = []
        async for page in self._pages(folder):
            now = store_time(page["ResponseMetadata"]["HTTPHeaders"])
            found += [
                Entry(
                    each["Key"][len(self._prefix) :],
                    each["Size"],
                    now - each["LastModified"].timestamp(),
                    each["ETag"],
                    each["LastModified"].timestamp(),
                )
                for each in page.get("Contents", ())
            ]
        return found

    async def folders(self, folder: str) -> list[str]:
        """Return the names that stand between *folder* and the next slash."""
        start = len(self._prefix + folder)
        return [
            each["Prefix"][start:-1]
            async for page in self._pages(folder, Delimiter="/")
            for each in page.get("CommonPrefixes", ())
        ]

    async def _pages(self, folder: str, **how: str) -> AsyncIterator[Any]:
        place = {"Bucket": self._name, "Prefix": self._prefix + folder, **how}
        more: dict[str, str] = {}
        while True:
            page = await self._call("list_objects_v2", folder, place, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    # --- Writing ----------------------------------------------------------------

    async def put(self, key: str, data: bytes) -> None:
        """Write a small object, in place of the one before."""
        await self._put(key, data)

    async def create(self, key: str, data: bytes) -> bool:
        """Write a small object where there is none; tell whether it is ours."""
        return await self._put_where(key, data, {"IfNoneMatch": "*"})

    async def swap(self, key: str, data: bytes, before: Object | None) -> bool:
        """Write a small object where *before* is there still; tell whether it was."""
        if before is None:
            return await self.create(key, data)
        return await self._put_where(key, data, {"IfMatch": before.etag})

    async def _put_where(
        self, key: str, data: bytes, condition: Mapping[str, str]
    ) -> bool:
        nonce = secrets.token_hex(8)
        for _ in range(TRIES):
            try:
                await self._put(key, data, Metadata={"nonce": nonce}, **condition)
            except Conflict:
                # Another's write, or our own whose answer was lost.
                there = await self.get(key)
                if there is not None and there.nonce == nonce:
                    return True
                if _is_against(there, condition):
                    return False
                # What was in the way is gone again, or the store was merely busy.
                await anyio.sleep(_CONFLICT_PAUSE)
            else:
                return True
        raise StoreError(f"PutObject {self.address(key)}: the store is busy with it")

    async def _put(self, key: str, data: bytes, **more: Any) -> None:
        # A sha256 that is known beforehand is taken by every server there is, while
        # checksums behind the data are not.
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        about = {"ChecksumSHA256": checksum, **self._encrypted(), **more}
        await self._call("put_object", key, Body=data, **about)

    async def upload(self, key: str, path: Path) -> None:
        """
        Write the file *path*, in parts where it is large; nothing is there before all.

        Raises:
            OSError: The file cannot be read.
            StoreError: The object could not be written.
        """
        size = (await anyio.Path(path).stat()).st_size
        if size <= PART:
            await self._put(key, await anyio.Path(path).read_bytes())
            return
        how: dict[str, Any] = {**self._encrypted()}
        answer = await self._call("create_multipart_upload", key, **how)
        upload = answer["UploadId"]
        try:
            whole = {"Parts": await self._upload_parts(upload, key, path, size)}
            how = {"UploadId": upload, "MultipartUpload": whole}
            await self._call("complete_multipart_upload", key, **how)
        except BaseException:
            # Parts that nobody completes cost money until somebody looks for them.
            with anyio.move_on_after(_ABORT_SECONDS, shield=True), suppress(StoreError):
                await self._call("abort_multipart_upload", key, UploadId=upload)
            raise

    async def _upload_parts(
        self, upload: str, key: str, path: Path, size: int
    ) -> list[dict[str, Any]]:
        async def send(number: int) -> dict[str, Any]:
            at = (number - 1) * PART
            part: dict[str, Any] = {"PartNumber": number}
            data = await anyio.to_thread.run_sync(_read_at, path, at)
            how = {**part, "UploadId": upload, "Body": data}
            answer = await self._call("upload_part", key, **how)
            return {**part, "ETag": answer["ETag"]}

        return await at_once(PARTS_AT_ONCE, send, range(1, -(-size // PART) + 1))

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are none."""
        for at in range(0, len(keys), _DELETED_AT_ONCE):
            some = [
                {"Key": self._prefix + key} for key in keys[at : at + _DELETED_AT_ONCE]
            ]
            gone = {"Objects": some, "Quiet": True}
            place = {"Bucket": self._name}
            answer = await self._call("delete_objects", keys[at], place, Delete=gone)
            for error in answer.get("Errors", ()):
                raise refused({"Error": error}, f"DeleteObject {error['Key']}")

    # --- The client -------------------------------------------------------------

    def _encrypted(self) -> dict[str, str]:
        kind, key = self._settings.sse, self._settings.sse_key
        return {
            **({"ServerSideEncryption": kind} if kind else {}),
            **({"SSEKMSKeyId": key} if key else {}),
        }

    async def _call(
        self, method: str, key: str, place: Mapping[str, str] | None = None, **how: Any
    ) -> Any:
        """
        Make a call, of the object *key* or another *place*; failures become one line.

        Raises:
            StoreError: The call failed.
        """
        place = place or {"Bucket": self._name, "Key": self._prefix + key}
        name = "".join(word.capitalize() for word in method.split("_"))
        what, left = f"{name} {self.address(key)}", TRIES
        while True:
            left -= 1
            try:
                return await getattr(await self._client(), method)(**place, **how)
            except StoreError:
                raise
            except Exception as exc:
                # An error whose text ends early is no answer, to the library neither.
                if left and type(exc).__name__ in _CUT:
                    continue
                raise explained(exc, what) from exc

    async def _client(self) -> Any:
        async with self._opening:
            if self._open is None:
                # What the library imports, it imports for most of a second.
                make = await anyio.to_thread.run_sync(_client_maker, self._settings)
                self._open = await self._stack.enter_async_context(make())
            return self._open


def _client_maker(settings: StoreSettings) -> Callable[[], Any]:
    """
    Return a function that opens a client.

    Raises:
        StoreError: The extra ``s3`` is not installed.
    """
    try:
        return client_maker(
            "s3",
            settings.region,
            settings.endpoint_url,
            mode="standard",
            tries=TRIES,
            s3={"addressing_style": "path" if settings.path_style else "auto"},
            request_checksum_calculation=settings.checksums,
            response_checksum_validation=settings.checksums,
        )
    except ImportError:
        text = "S3 needs more: pip install 'ghostasync[s3]'"
        raise StoreError(text) from None


def _is_against(there: Object | None, condition: Mapping[str, str]) -> bool:
    """Tell whether what is there explains why a conditional write was refused."""
    if "IfNoneMatch" in condition:
        return there is not None
    return there is None or there.etag != condition["IfMatch"]


def _nonce(answer: Mapping[str, Any]) -> str:
    return str(answer.get("Metadata", {}).get("nonce", ""))


def _read_at(path: Path, at: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(PART)
