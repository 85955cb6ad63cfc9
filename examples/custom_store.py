"""A store of your own: packages in a folder as ever, what runs leave in SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import anyio

from ghostasync import deploy, load_plan
from ghostasync.errors import NotInStore, StoreError
from ghostasync.stores import DirectoryStore

TABLE = "create table if not exists parts (run, name, at, data, unique (run, name, at))"
NUMBERS = "create table if not exists numbers (number integer primary key, run)"
NUMBER = "insert or ignore into numbers values (?, ?) returning number"
END = "select ifnull(max(at + length(data)), 0) from parts where run = ? and name = ?"
ALL = "select data from parts where run = ? and name = ? order by at"


class SqliteRunLog:
    """Files of runs, in the parts that were handed in; each call takes milliseconds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._do(TABLE)
        self._do(NUMBERS)

    def folder(self, run: str) -> None:
        """Say that no folder holds them: a run hands its files in while they grow."""

    async def append(self, run: str, name: str, at: int, data: bytes) -> None:
        if self._do(END, run, name) == [(at,)]:
            self._do("insert into parts values (?, ?, ?, ?)", run, name, at, data)
        if (await self.load(run, name))[at : at + len(data)] != data:
            raise StoreError(f"{name} of run {run} has another part at {at}, or none")

    async def save(self, run: str, name: str, data: bytes) -> None:
        self._do("replace into parts values (?, ?, 0, ?)", run, name, data)

    async def load(self, run: str, name: str) -> bytes:
        if not (parts := self._do(ALL, run, name)):
            raise NotInStore(f"there is no {name} of run {run}")
        return b"".join(data for (data,) in parts)

    async def ids(self) -> list[str]:
        return [run for (run,) in self._do("select distinct run from parts order by 1")]

    async def reserve(self, run: str, lowest: int) -> int:
        free = count(max(1, lowest))
        return next(number for number in free if self._do(NUMBER, number, run))

    async def generations(self) -> dict[str, int]:
        return dict(self._do("select run, number from numbers where run > ''"))

    async def remove(self, run: str) -> None:
        self._do("delete from parts where run = ?", run)
        self._do("update numbers set run = null where run = ?", run)

    def _do(self, sql: str, *values: str | int | bytes) -> list[tuple[Any, ...]]:
        try:
            with closing(sqlite3.connect(self._file, isolation_level=None)) as db:
                return db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"SQLite: {error}") from error


if __name__ == "__main__":
    store = DirectoryStore(Path("store"))
    store.runs = SqliteRunLog(Path("runs.db"))
    anyio.run(lambda: deploy(load_plan("ghostasync.toml"), store=store))
