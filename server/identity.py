"""Who is calling. The interceptor finds it out once for each call; whoever needs it asks `caller()`."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

from server.errors import PermissionDenied

DEFAULT_TENANT = "default"
"""The tenant of callers without a key."""


class Role(StrEnum):
    """What a key may do. CALLER asks on behalf of users, RATER gives feedback and reviews, TRAINER reads what training
    needs, OPERATOR does everything."""

    CALLER = "caller"
    RATER = "rater"
    OPERATOR = "operator"
    TRAINER = "trainer"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling: `name` for people, `key_id` of their API key ("" without keys).

    `user_id` is set for keys of a single user: such a caller can act for nobody else.
    """

    tenant_id: str
    roles: frozenset[Role]
    key_id: str = ""
    name: str = ""
    user_id: str = ""

    def require_user(self, user_id: str) -> None:
        """Raises PermissionDenied when this caller can't act for the user."""
        if self.user_id and user_id != self.user_id:
            raise PermissionDenied("This API key belongs to one user and can't act for another.")


ANYONE = Caller(DEFAULT_TENANT, frozenset(Role))
"""Whoever reaches a server without keys, which listens to its own machine only."""

_current: ContextVar[Caller] = ContextVar("caller", default=ANYONE)


def caller() -> Caller:
    """Who makes the call that runs now."""
    return _current.get()


def enter(who: Caller) -> None:
    """Notes who makes the call that runs in this task."""
    _current.set(who)
