"""Which reward release is in service: what new ones are compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncpg

from trainer.database import answering
from trainer.errors import TrainerError
from triton_models import manifest

STARTER: Final = Path(__file__).resolve().parents[1] / "starter"
_NEWEST: Final = """
SELECT reward_release FROM training_replies_v1 WHERE tenant_id = $1 AND reward_release <> ''
ORDER BY response_id DESC LIMIT 1
"""


async def in_service(pool: asyncpg.Pool, tenant: str, named: Path | None, places: Sequence[Path]) -> Path | None:
    """The directory of the release that scored the tenant's newest reply, or else the one that is `named`.

    It is looked for in `named`, and by its name in `places`. None: no release scores. Raises TrainerError where one
    does that is not on this machine: with nothing to compare with, a worse model could take its place.
    """
    with answering("replies"):
        newest: str | None = await pool.fetchval(_NEWEST, tenant)
    if newest is None and named is None:
        return None
    candidates = [*([named] if named else []), *(place / newest for place in places if newest)]
    found = next((path for path in candidates if _is_reward(path, newest or "")), None)
    if found is None:
        raise TrainerError(
            f"The release in service, {newest or named}, is not on this machine, so nothing can be compared with it: "
            f"put its directory into {places[0]}, or name it with RATCHET_REWARD."
        )
    return found


def _is_reward(path: Path, name: str = "") -> bool:
    try:
        release = manifest.read(path)
    except manifest.ReleaseError:
        return False
    return release.kind == "reward" and name in ("", release.id)
