"""The statements that search the log. Values are parameters, always; names are our own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

_LONGEST_CALL = 3_600_000
"""Milliseconds by which a reply can be younger than its id, which is made when the request comes: a call's deadline."""
_CLOCKS = 60_000
"""Milliseconds by which it can be older, where a clock is set back."""
_HIGHEST = UUID(int=2**128 - 1)
_CUT = 500
"""Characters of texts in lists."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for; all of it must hold. What is None, "" or empty does not restrict.

    `words` are parts of words in query or answer, in any case and Unicode composition. Scores are 0 to 1, ratings 1 to
    5. `release` wrote or scored. `flags` are values of `Flag`. Times are of the reply: from `from_time` on, before
    `until_time`.
    """

    tenant_id: str
    words: tuple[str, ...] = ()
    user_id: str | None = None
    session_id: str = ""
    minimum_reward: float | None = None
    maximum_reward: float | None = None
    minimum_rating: int | None = None
    maximum_rating: int | None = None
    reaction: str = ""
    release: str = ""
    flags: tuple[str, ...] = ()
    from_time: datetime | None = None
    until_time: datetime | None = None

    @property
    def of_feedback(self) -> bool:
        """Whether only replies with current feedback can fit."""
        asked = self.minimum_rating, self.maximum_rating, self.reaction or None
        return any(each is not None for each in asked) or not _OF_FEEDBACK.isdisjoint(self.flags)


_OF_FEEDBACK = frozenset({"has_feedback", "safety_reported", "commented"})
_FLAGS = {
    "refused": "l.refused",
    "degraded": "l.degradations <> '[]'",
    "regenerated": "l.regenerated",
    "explored": "l.explored",
    "has_feedback": "f.has_feedback",
    "safety_reported": "f.safety_reported",
    "commented": "f.commented",
}
"""Each flag as a condition on a row `l` of the log and what `f` says of its feedback."""
_SHOWN = ", ".join(
    (
        'l.response_id, l."timestamp" AS created_at, l.user_id, l.session_id, l.reward_score, l.total_seconds',
        f"left(l.query, {_CUT}) AS query, left(l.selected_response, {_CUT}) AS response",
        "l.policy_release, l.reward_release, l.erased, f.rating, f.reaction",
        "jsonb_array_length(l.all_candidates) AS candidates_count",
        *(f"{condition} AS {flag}" for flag, condition in _FLAGS.items()),
    )
)
_CURRENT = """
LEFT JOIN LATERAL (
    SELECT max(rating_overall) AS rating, max(reaction_type) AS reaction, count(*) > 0 AS has_feedback,
           coalesce(bool_or(kind = 'safety_report'), false) AS safety_reported,
           coalesce(bool_or(kind = 'rating' AND text_feedback <> ''), false) AS commented
    FROM feedback_data WHERE tenant_id = l.tenant_id AND response_id = l.response_id AND NOT withdrawn
) f ON true"""
"""What the current feedback on a row says: of each kind there is one at most."""
_PLAIN = r"\u0001-\u02ff\u1e00-\u1eff\u2010-\u20cf"
"""Letters that composition leaves alone where no others stand beside them: Latin, Vietnamese, punctuation. Most texts
have no others, and looking is ten times as fast as normalising."""
_FOLDED = f"lower(CASE WHEN {{0}} ~ '[^{_PLAIN}]' THEN normalize({{0}}, NFC) ELSE {{0}} END)"
"""A text without its case and composition."""
_TEXT = "l.query || E'\\n' || l.selected_response"
_WORDS = f"ARRAY(SELECT {_FOLDED.format('given')} FROM unnest({{}}::text[]) AS given)"


class _Values(list[Any]):
    """Collects parameters."""

    def add(self, value: object) -> str:
        """The parameter's name."""
        self.append(value)
        return f"${len(self)}"


def places(search: Search, before: UUID | None, limit: int) -> tuple[str, Sequence[Any]]:
    """The statement that gives at most `limit` ids of replies that may fit, newest first, and its values.

    From the index alone: of one user's replies, of all that have feedback, or of all.
    """
    values = _Values()
    table = "feedback_data" if search.of_feedback else "conversation_logs"
    low, high = _bounds(search)
    conditions = [
        f"tenant_id = {values.add(search.tenant_id)}",
        f"response_id >= {values.add(low)}",
        f"response_id < {values.add(high if before is None else min(before, high))}",
    ]
    if search.of_feedback:
        conditions.append("NOT withdrawn")
    elif search.user_id is not None:
        conditions.append(f"user_id = {values.add(search.user_id)}")
        if search.session_id:
            conditions.append(f"session_id = {values.add(search.session_id)}")
    distinct = "DISTINCT " if search.of_feedback else ""
    return (
        f"SELECT {distinct}response_id FROM {table} WHERE {' AND '.join(conditions)}"
        f" ORDER BY response_id DESC LIMIT {limit:d}",
        values,
    )


def details(search: Search, ids: Sequence[UUID]) -> tuple[str, Sequence[Any]]:
    """The statement that gives those of `ids` (newest first) that fit, newest first, and its values."""
    values = _Values()
    conditions = [
        f"l.tenant_id = {values.add(search.tenant_id)}",
        f"l.response_id = ANY({values.add(list(ids))}::uuid[])",
        f"l.response_id BETWEEN {values.add(ids[-1])} AND {values.add(ids[0])}",
        *_of_the_row(search, values),
        *(_FLAGS[flag] for flag in search.flags),
    ]
    for condition, value in (
        ("f.rating >= {}", search.minimum_rating),
        ("f.rating <= {}", search.maximum_rating),
        ("f.reaction = {}", search.reaction or None),
    ):
        if value is not None:
            conditions.append(condition.format(values.add(value)))
    return (
        f"SELECT {_SHOWN} FROM conversation_logs l{_CURRENT} WHERE {' AND '.join(conditions)}"
        " ORDER BY l.response_id DESC",
        values,
    )


def _of_the_row(search: Search, values: _Values) -> list[str]:
    """The conditions on the row itself, cheap ones first."""
    asked: tuple[tuple[str, object], ...] = (
        ("l.user_id = {}", search.user_id),
        ("l.session_id = {}", search.session_id or None),
        ("l.reward_score >= {}", search.minimum_reward),
        ("l.reward_score <= {}", search.maximum_reward),
        ("{} IN (l.policy_release, l.reward_release)", search.release or None),
        ('l."timestamp" >= {}', search.from_time),
        ('l."timestamp" < {}', search.until_time),
    )
    conditions = [condition.format(values.add(value)) for condition, value in asked if value is not None]
    if search.words:
        words = _WORDS.format(values.add(list(search.words)))
        # OFFSET 0: else the text would be put together and folded again for each use.
        given = f"(SELECT {_TEXT} AS text OFFSET 0) AS given"
        folded = f"(SELECT {_FOLDED.format('given.text')} AS text FROM {given} OFFSET 0) AS folded"
        conditions.append(f"(SELECT bool_and(strpos(folded.text, word) > 0) FROM {folded}, unnest({words}) AS word)")
    return conditions


def _bounds(search: Search) -> tuple[UUID, UUID]:
    """Between which ids all replies of the time lie: from the first on, before the second."""
    low = UUID(int=0) if search.from_time is None else _least(search.from_time, -_LONGEST_CALL)
    return low, _HIGHEST if search.until_time is None else _least(search.until_time, _CLOCKS)


def _least(moment: datetime, shift: int) -> UUID:
    """The least id that is made `shift` milliseconds after the moment."""
    milliseconds = int(moment.timestamp() * 1000) + shift
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80)
