"""The points of a run's curves: at most about a thousand of them, however long it takes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from trainer.database import Connection
from trainer.reward import job

MOST: Final = 1000
"""Points that are kept, beside those of the validation part."""
MARK: Final = "validation_loss"
"""What only an epoch's last step has: such a point always stays."""

_FORGET = "DELETE FROM training_points WHERE training_id = $1 AND step >= $2"
_WRITE = """
INSERT INTO training_points (training_id, step, "values") SELECT $1, * FROM unnest($2::bigint[], $3::jsonb[])
ON CONFLICT (training_id, step) DO UPDATE SET "values" = excluded."values"
"""
_THIN = f"""
DELETE FROM training_points WHERE training_id = $1 AND step % $2 <> 0 AND NOT "values" ? '{MARK}'
"""


@dataclass(frozen=True, slots=True)
class Point:
    """Numbers by name at an optimiser's step, from 0."""

    step: int
    values: Mapping[str, float]


def stride(last: int) -> int:
    """Every how manyth step is kept of a curve that has come to step `last`: a power of 2."""
    kept = 1
    while last // kept >= MOST:
        kept *= 2
    return kept


class Curve:
    """Writes the points of one attempt. What an earlier attempt wrote of the same steps, or later ones, goes."""

    def __init__(self, training_id: UUID) -> None:
        self._id, self._stride = training_id, 0

    async def write(self, connection: Connection, new: Sequence[job.Point]) -> None:
        """Adds points. The last one of a step counts: a run that goes on makes the steps after its checkpoint again."""
        if not new:
            return
        newest = {point.step: point for point in new}
        new = [newest[step] for step in sorted(newest)]
        if not self._stride:
            await connection.execute(_FORGET, self._id, new[0].step)
        wanted = max(stride(new[-1].step), self._stride)
        kept = [point for point in new if point.step % wanted == 0 or MARK in point.values]
        values = [json.dumps(dict(point.values)) for point in kept]
        await connection.execute(_WRITE, self._id, [point.step for point in kept], values)
        if self._stride and wanted > self._stride:
            await connection.execute(_THIN, self._id, wanted)
        self._stride = wanted
