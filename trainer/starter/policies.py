"""Questions about the shop's policies, with the passages that answer them or without, and after earlier turns."""

import random
from dataclasses import replace
from typing import Final

from trainer.starter import evidence, shop
from trainer.starter.asking import ORDER_NUMBERS, UNRELATED_RATE, Asked, fill, held_out, phrasing, slots
from trainer.starter.evidence import Setting
from trainer.starter.query import Expected, Language, Query, Split
from trainer.starter.writer import Draft

EVIDENCE_RATE: Final = 0.65
ANSWERED: Final = 0.85
"""Of the questions with evidence: how many have the passage that answers them among it."""
TURN_RATE: Final = 0.2


def draft_of(intent: shop.Intent, lang: Language, value: str, close: str = "") -> Draft:
    """Wrong answers state another value: the shop's usual one when the evidence overrides it, else a plausible one."""
    words, page = intent.wording[lang], shop.title(intent.page, lang)
    if not value:
        return Draft(words.say, words.lie, words.next, page)
    false = [other for other in (*intent.others, intent.value, close) if other not in (value, "")]
    if value != intent.value:
        false += [intent.value] * 2
    say = tuple(text.replace("{v}", shop.spoken(value, lang)) for text in words.say)
    lie = tuple(text.replace("{v}", shop.spoken(other, lang)) for text in words.say for other in false)
    return Draft(say, lie, words.next, page)


def ask(rng: random.Random, lang: Language, split: Split) -> Asked:
    """A question about any policy, in a setting of the usual mixture."""
    intent = rng.choice(shop.faq())
    if rng.random() < EVIDENCE_RATE:
        return policy_question(rng, lang, split, intent, evidence.draw(rng, ANSWERED))
    bare = replace(evidence.draw(rng, 0.0), distractors=0)
    return policy_question(rng, lang, split, intent, bare)


def policy_question(
    rng: random.Random, lang: Language, split: Split, intent: shop.Intent, setting: Setting, ask: str = ""
) -> Asked:
    """A policy question in this setting, asked with `ask` or with a phrasing of the split."""
    words = intent.wording[lang]
    value = evidence.value_of(intent, setting.source, rng) if setting.answered else intent.value
    lines = evidence.passages(intent, lang, value, setting, rng)
    if lines and not ask and rng.random() < UNRELATED_RATE:
        rows = [evidence.row_line(shop.order(rng, *ORDER_NUMBERS[split]), rng)]
        lines = rows + lines if rng.random() < 0.5 else lines + rows
    close = evidence.any_value(intent.value, rng) if intent.value else ""
    draft = draft_of(intent, lang, value, close)
    expected = Expected(words.topic, words.next, value, words.unit, words.yes, words.no)
    text = fill(ask or phrasing(words.ask, split, rng, held_out(intent.id, lang)), slots(rng, lang))
    turns: tuple[tuple[str, str], ...] = ()
    if not ask and rng.random() < TURN_RATE:
        text, turns = _follow_up(intent, draft, lang, split, rng)
    query = Query("", lang, intent.id, "faq", text, expected, evidence.system(lines, setting, rng), turns)
    return Asked(query, draft, other(intent, lang, rng), grounded=bool(lines) and setting.answered)


def _follow_up(
    intent: shop.Intent, draft: Draft, lang: Language, split: Split, rng: random.Random
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A question that leans on the turn before ('say that again' on the same intent, or its page's next question), or
    one of its own after an exchange about something else.
    """
    again: dict[str, list[str]] = shop.tables("talk")["again"][lang]
    kind = rng.random()
    if kind < 0.35:
        first = _first_question(intent, lang, split, rng)
        return phrasing(tuple(rng.choice(list(again.values()))), split, rng), ((first, _first_answer(draft, rng)),)
    same = kind < 0.75
    near = rng.choice([one for one in shop.faq() if (one.page == intent.page) == same and one.id != intent.id])
    value = evidence.value_of(near, rng.choice(("usual", "new")), rng)
    turn = (_first_question(near, lang, split, rng), _first_answer(draft_of(near, lang, value), rng))
    if same:
        return rng.choice(intent.wording[lang].follow), (turn,)
    return _first_question(intent, lang, split, rng), (turn,)


def _first_question(intent: shop.Intent, lang: Language, split: Split, rng: random.Random) -> str:
    held = held_out(intent.id, lang)
    return fill(phrasing(intent.wording[lang].ask, split, rng, held), slots(rng, lang))


def _first_answer(draft: Draft, rng: random.Random) -> str:
    return f"{rng.choice(draft.say)} {rng.choice(draft.next)}"


def other(intent: shop.Intent, lang: Language, rng: random.Random) -> Draft:
    """What an answer that misses the question talks about: another page's intent."""
    far = rng.choice([one for one in shop.faq() if one.page != intent.page])
    return draft_of(far, lang, far.value)
