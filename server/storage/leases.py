"""Who uses what, among processes that share a database: advisory locks, which end with their connection."""

from server.storage.database import Connection

_OWN = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
_FREE = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"
_SHARE = "SELECT pg_try_advisory_lock_shared(hashtextextended($1, 0))"
_HOLD = "SELECT pg_advisory_lock_shared(hashtextextended($1, 0))"


async def own(connection: Connection, name: str) -> bool:
    """Whether the connection now is the only one that has `name`."""
    return bool(await connection.fetchval(_OWN, name))


async def share(connection: Connection, name: str) -> bool:
    """Whether the connection now has `name`, beside others that share it."""
    return bool(await connection.fetchval(_SHARE, name))


async def hold(connection: Connection, name: str) -> None:
    """Like `share`; waits while somebody has it alone, such as who looks whether it is free."""
    await connection.execute(_HOLD, name)


async def free(connection: Connection, name: str) -> bool:
    """Whether nobody has `name`, or shares it, at this moment. Outside of a transaction, or it is kept."""
    return bool(await connection.fetchval(_FREE, name))


def of_model(triton: str, model: str) -> str:
    """The name by which a replay says that it uses a model of the Triton at this address."""
    return f"ratchet replay {triton}/{model}"


def of_server(model: str) -> str:
    """The name by which a server says that it wants a model on every Triton, whatever the rollouts want."""
    return f"ratchet server {model}"
