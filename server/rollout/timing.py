"""Which turns are timed: they ask the reward about every text, whatever the cache of scores knows.

What the cache finds depends on the arm (whose scores are a day old, who has more users) and on the query (what others
asked before). So neither all times compare, nor those without a hit. While something is tried that changes how long
scoring takes, a part of all turns, of both arms by the same coin, reads no scores, and latency is theirs alone. They
still write what they find, and all other turns read.
"""

from collections.abc import Mapping
from uuid import UUID

from server.rollout.assignment import BUCKETS, Unit, bucket_of
from server.rollout.trial import Trial
from server.rollout.types import Kind, Variation

SCORING = "scoring"
STAGES: Mapping[Kind | Variation, tuple[str, ...]] = {
    Kind.REWARD: (SCORING,),
    **dict.fromkeys((Kind.POLICY, Variation.SELECTION, Variation.PROMPT), ("candidates", SCORING)),
    Variation.INTERFACE: (),
}
"""Stages of the path whose time depends on what is tried."""
LEAST, MOST = 0.2, 0.5
"""The part of turns where half of the users are the challenger's, and where an arm is small."""
_SALT = "timed"


def times_scoring(trial: Trial) -> bool:
    """Whether its arms' times of scoring are compared."""
    return trial.plan.compares and SCORING in STAGES[trial.kind]


def part(treated: float) -> float:
    """The part of turns that is timed while challengers have such a share of users, above 0 and up to 1.

    A turn tells as much as its share times the other's: as that falls, the part grows, so that a small arm is judged
    almost as soon as a large one. Never more than MOST: the rest of the users keep what the cache is good for.
    """
    told = 4 * treated * (1 - treated)
    return min(MOST, LEAST / told) if told else MOST


def is_timed(tenant_id: str, response_id: UUID, most: float) -> bool:
    """Whether a turn is, where such a part (0 to 1) of all is. One coin a turn, for all that is tried at that time."""
    return bucket_of(_SALT, tenant_id, Unit.REQUEST, str(response_id)) < most * BUCKETS
