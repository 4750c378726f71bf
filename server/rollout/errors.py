"""What a rollout can't do."""

from server.errors import Conflict, RatchetError


class RolloutNotPossible(RatchetError):
    """The rollout can't do this from where it stands, or not yet; the text says why and what would help."""

    reason = "ROLLOUT_NOT_POSSIBLE"


class RolloutChanged(Conflict):
    """The rollout moved on since the caller, or the evidence, saw it."""
