"""What the request path puts before a question: the system message with the user's line, passages and rows.

Parts come in serving's order, each only when there: `User: key = value; …`, `Evidence:` with a line a passage, the
caller's own context. Values vary at random, so that they can only be copied, not remembered.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from trainer.starter import shop
from trainer.starter.query import Language
from trainer.starter.shop import Intent, Order

Source = Literal["usual", "other", "new"]

NOTES: Final = (
    "You are the help desk of Tamarind Trail.",
    "You are a helpful assistant.",
    "Answer the customer in a friendly way.",
)
ATTRIBUTES: Final = {
    "language": ("English", "Vietnamese"),
    "tier": ("gold", "silver", "bronze", "new"),
    "size": ("S", "M", "L", "XL"),
    "likes": ("tents", "jackets", "hiking", "backpacks"),
    "city": ("Hanoi", "Hue", "Da Nang", "Can Tho"),
    "style": ("short", "friendly", "detailed"),
    "orders": ("2", "7", "15", "31"),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What surrounds a question. `answered`: the passage or row that answers it is among the evidence.

    `source` says where its value comes from: the shop's usual one, one of the plausible others, or any. `distractors`
    are passages beside the point, `rows` the rows of orders, the asked one among them.
    """

    answered: bool = True
    source: Source = "usual"
    distractors: int = 0
    rows: int = 1
    profile: bool = False
    note: str = ""


def draw(rng: random.Random, answered: float) -> Setting:
    """A setting of the usual mixture; `answered` is the share with the passage or row that answers."""
    sources: tuple[Source, ...] = ("usual", "other", "new")
    return Setting(
        answered=rng.random() < answered,
        source=rng.choices(sources, (0.25, 0.15, 0.6))[0],
        distractors=rng.choices((0, 1, 2), (0.5, 0.35, 0.15))[0],
        rows=rng.choices((1, 2, 3, 4, 5), (0.5, 0.22, 0.14, 0.08, 0.06))[0],
        profile=rng.random() < 0.2,
        note=rng.choice(NOTES) if rng.random() < 0.15 else "",
    )


def system(lines: Sequence[str], setting: Setting, rng: random.Random) -> str:
    """The system message; empty when there is nothing to say."""
    parts = [_profile(rng)] if setting.profile else []
    parts += ["\n".join(["Evidence:", *lines])] if lines else []
    return "\n".join([*parts, *([setting.note] if setting.note else [])])


def _profile(rng: random.Random) -> str:
    keys = rng.sample(list(ATTRIBUTES), rng.randrange(1, 4))
    return "User: " + "; ".join(f"{key} = {rng.choice(ATTRIBUTES[key])}" for key in keys)


def value_of(intent: Intent, source: Source, rng: random.Random) -> str:
    """The value that the evidence states; empty for an intent without one."""
    if not intent.value or source == "usual":
        return intent.value
    return rng.choice(intent.others) if source == "other" else any_value(intent.value, rng)


def any_value(like: str, rng: random.Random) -> str:
    """A random value of the same shape and about the size of `like`: 2-4, 30, 5000000."""
    if "-" in like:
        if int(like.split("-")[1]) > 14:  # opening hours
            return f"{rng.randrange(5, 12)}-{rng.randrange(13, 24)}"
        low = rng.randrange(1, 20)
        return f"{low}-{low + rng.randrange(1, 9)}"
    number = int(like)
    if number < 1000:
        return str(rng.randrange(2, max(20, 3 * number)))
    step = 500 if number <= 10_000 else 1000 if rng.random() < 0.7 else 500
    return str(rng.randrange(max(2, number // 10 // step), number * 4 // step) * step)


def passages(intent: Intent, lang: Language, value: str, setting: Setting, rng: random.Random) -> list[str]:
    """Lines of evidence for a policy question, in any order: its own passage when answered, and distractors."""
    lines = [_distractor(intent, lang, rng) for _ in range(setting.distractors)]
    if setting.answered:
        told = lang if rng.random() < 0.94 else "vi" if lang == "en" else "en"
        lines.insert(rng.randrange(len(lines) + 1), line(intent, told, value, rng))
    return lines


def _distractor(intent: Intent, lang: Language, rng: random.Random) -> str:
    """A passage on another question, in half of the cases of the same page."""
    near = rng.random() < 0.5
    other = rng.choice([one for one in shop.faq() if one.id != intent.id and (one.page == intent.page) == near])
    return line(other, lang, value_of(other, rng.choice(("usual", "usual", "new")), rng), rng)


def unrelated(lang: Language, count: int, rng: random.Random) -> list[str]:
    """Passages of the help pages for a question that they do not answer."""
    return [line(one, lang, one.value, rng) for one in rng.sample(shop.faq(), count)]


def line(intent: Intent, lang: Language, value: str, rng: random.Random) -> str:
    """`[title] text` of one passage; the title may name its question, the text may go on with the next step."""
    words = intent.wording[lang]
    head, draw = shop.title(intent.page, lang), rng.random()
    if draw < 0.6:
        head += rng.choice((" · ", " · ", " · ", " - ", ": ", " > ")) + shop.question(words, lang)
    said = words.say[0] if rng.random() < 0.7 else rng.choice(words.say)
    text = said.replace("{v}", shop.spoken(value, lang)) if value else said
    return f"[{head}] {text} {words.next[0]}" if rng.random() < 0.5 else f"[{head}] {text}"


def row_line(row: Order, rng: random.Random | None = None) -> str:
    """One row of the order table as evidence; with `rng`, at times with fewer fields or the table's own columns."""
    fields = {
        "customer": row.customer,
        "status": row.status,
        "item": f"{row.quantity} x {row.item}",
        "total": f"{row.total:,}",
        "day": row.day,
        "carrier": row.carrier,
        "payment": row.method,
    }
    if rng is None or (kind := rng.random()) < 0.75:
        return f"[orders] order {row.order_id} | " + _joined(fields)
    if kind < 0.88:
        return f"[orders] order {row.order_id} | " + _joined({**fields, "total": str(row.total), "city": row.city})
    del fields["customer"]
    return f"[orders] order {row.order_id} | " + _joined(dict(rng.sample(list(fields.items()), len(fields))))


def _joined(fields: dict[str, str]) -> str:
    return " | ".join(f"{name} {value}" for name, value in fields.items())
