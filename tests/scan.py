"""Looks for words everywhere that Ratchet keeps something: every column of every table, every key, every file."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis

_TEXTS = """
SELECT table_name, column_name, data_type FROM information_schema.columns JOIN information_schema.tables
USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
"""


_KNOWN = {"conversation_logs", "feedback_data", "profiles", "erasures", "training_runs", "review_items"}


async def in_postgres(pool: asyncpg.Pool, words: Sequence[str]) -> set[tuple[str, str]]:
    """(table.column, word) of all that is found; bytes are looked through as they are."""
    found = set()
    columns = await pool.fetch(_TEXTS)
    assert {each["table_name"] for each in columns} >= _KNOWN
    for table, column, kind in columns:
        raw = kind == "bytea"
        text = f'"{column}"' if raw else f'"{column}"::text'
        where = f'EXISTS (SELECT FROM "{table}" WHERE position(word IN {text}) > 0)'
        given: list[Any] = [word.encode() for word in words] if raw else list(words)
        rows = await pool.fetch(
            f"SELECT word FROM unnest($1::{'bytea' if raw else 'text'}[]) AS word WHERE {where}", given
        )
        found |= {(f"{table}.{column}", row["word"].decode() if raw else row["word"]) for row in rows}
    return found


async def in_redis(client: Redis, words: Sequence[str]) -> set[tuple[str, str]]:
    """(key, word) of all that is found, in keys and values of every type."""
    found = set()
    async for key in client.scan_iter(count=1000):
        texts = [key, *await _values(client, key)]
        found |= {(repr(key), word) for word in words if any(word.encode() in text for text in texts)}
    return found


async def _values(client: Redis, key: bytes) -> list[bytes]:
    kind = str(await client.type(key), "ascii")  # type: ignore[arg-type]  # bytes, as nothing is decoded
    if kind == "none":  # it expired just now
        return []
    found = await _READ[kind](client, key)  # a KeyError: a kind of value that is not looked through
    return list(_flat(found))


def _flat(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _flat(pair)
    elif isinstance(value, list | set | tuple):
        for each in value:
            yield from _flat(each)


_READ: Mapping[str, Callable[[Any, bytes], Awaitable[Any]]] = {
    "string": lambda client, key: client.get(key),
    "list": lambda client, key: client.lrange(key, 0, -1),
    "hash": lambda client, key: client.hgetall(key),
    "set": lambda client, key: client.smembers(key),
    "zset": lambda client, key: client.zrange(key, 0, -1),
    "stream": lambda client, key: client.xrange(key),
}


def in_files(folders: Iterable[Path], words: Sequence[str]) -> set[tuple[str, str]]:
    """(path, word) of all that is found, in names and contents; Parquet files are read."""
    found = set()
    for folder in folders:
        for path in folder.rglob("*"):
            content = str(path).encode() + (path.read_bytes() if path.is_file() else b"") + _parquet(path)
            found |= {(str(path), word) for word in words if word.encode() in content}
    return found


def _parquet(path: Path) -> bytes:
    if path.suffix != ".parquet":
        return b""
    import pyarrow.parquet

    return repr(pyarrow.parquet.read_table(path).to_pylist()).encode()
