"""Which replies are shown, as the address says it: `/conversations?rating=1-2&flag=safety_reported&time=24h`.

Whatever an address says that is none of this is left out: links get old, and people edit them.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import urlencode

from ratchet.v1 import conversation_pb2 as pb
from ratchet.v1 import feedback_pb2

PATH = "/conversations"
FLAGS = ("refused", "degraded", "regenerated", "explored", "has_feedback", "safety_reported", "commented")
REACTIONS = ("thumbs_up", "thumbs_down", "neutral")
SPANS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
_SHARE = r"([01](?:\.[0-9]{1,6})?)"
_SCORES, _RATINGS = re.compile(rf"{_SHARE}(?:-{_SHARE})?"), re.compile("([1-5])(?:-([1-5]))?")
_LONGEST = {"text": 256, "user": 128, "session": 128, "release": 128}


@dataclass(frozen=True, slots=True)
class Filters:
    """By name of the address; "" does not restrict.

    `score` and `rating` are ranges such as 0-0.5 and 1-2, or one value, ratings whole ones; `flag` is some of FLAGS
    between commas; `time` is one of SPANS before now; `from_day` and `until_day` are days in UTC, both included.
    """

    text: str = ""
    user: str = ""
    session: str = ""
    score: str = ""
    rating: str = ""
    reaction: str = ""
    release: str = ""
    flag: str = ""
    time: str = ""
    from_day: str = ""
    until_day: str = ""

    @classmethod
    def of(cls, address: Mapping[str, str]) -> "Filters":
        """Those of an address's query."""
        given = {each.name: address.get(each.name, "").strip() for each in fields(cls)}
        flags = [each for each in given["flag"].split(",") if each in FLAGS]
        lines = {name: _one_line(given[name])[:most] for name, most in _LONGEST.items()}
        kept = {
            **lines,
            "score": given["score"] if _scores(given["score"]) else "",
            "rating": given["rating"] if _ratings(given["rating"]) else "",
            "reaction": given["reaction"] if given["reaction"] in REACTIONS else "",
            "flag": ",".join(dict.fromkeys(flags)),
            "time": given["time"] if given["time"] in SPANS else "",
            "from_day": given["from_day"] if _day(given["from_day"]) else "",
            "until_day": given["until_day"] if _day(given["until_day"]) else "",
        }
        return cls(**kept)

    @property
    def address(self) -> str:
        """Where the page shows them."""
        given = {name: value for name, value in asdict(self).items() if value}
        return f"{PATH}?{urlencode(given)}" if given else PATH

    def without(self, name: str) -> "Filters":
        """These, but for one."""
        return replace(self, **{name: ""})

    @property
    def given(self) -> dict[str, str]:
        """Those that restrict, by name; the words that are searched for apart."""
        return {name: value for name, value in asdict(self).items() if value and name != "text"}

    def request(self, now: datetime) -> pb.ListConversationsRequest:
        """What asks the server for them."""
        found = pb.ListConversationsRequest(
            text=self.text,
            session_id=self.session,
            release=self.release,
            flags=[pb.ConversationFlag.Value(f"CONVERSATION_FLAG_{each.upper()}") for each in _parts(self.flag)],
            reaction_type=feedback_pb2.ReactionType.Value(f"REACTION_TYPE_{(self.reaction or 'unspecified').upper()}"),
        )
        if self.user:
            found.user_id = self.user
        if score := _scores(self.score):
            found.minimum_reward, found.maximum_reward = score
        if rating := _ratings(self.rating):
            found.minimum_rating, found.maximum_rating = rating
        begins = [now - SPANS[self.time]] if self.time else []
        begins += [_midnight(first)] if (first := _day(self.from_day)) else []
        if begins:
            found.from_time.FromDatetime(max(begins))
        if last := _day(self.until_day):
            found.until_time.FromDatetime(_midnight(last) + timedelta(days=1))
        return found


def _parts(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def _one_line(text: str) -> str:
    return "".join(each for each in text if each.isprintable())


def _scores(text: str) -> tuple[float, float] | None:
    found = _SCORES.fullmatch(text)
    if found is None:
        return None
    low, high = float(found[1]), float(found[2] or found[1])
    return (low, high) if low <= high <= 1 else None


def _ratings(text: str) -> tuple[int, int] | None:
    found = _RATINGS.fullmatch(text)
    if found is None:
        return None
    low, high = int(found[1]), int(found[2] or found[1])
    return (low, high) if low <= high else None


def _day(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if 1970 <= found.year <= 9000 else None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
