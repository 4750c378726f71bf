"""Preferences written as whole dialogues, "\\n\\nHuman: ...\\n\\nAssistant: ...": what was asked, and both answers."""

import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Final

from trainer.errors import DataError
from triton_models.dialogue import transcript

HUMAN: Final = "Human"
ASSISTANT: Final = "Assistant"
_TURN = re.compile(rf"\n\n({HUMAN}|{ASSISTANT}):")

Turn = tuple[str, str]
"""(who, what)."""


def is_dialogue(text: str) -> bool:
    """Whether it begins with somebody's turn."""
    return bool(turns(text))


def turns(text: str) -> tuple[Turn, ...]:
    """The turns of a dialogue, in order; none when the text doesn't begin with one."""
    before, *parts = _TURN.split("\n\n" + text.replace("\r\n", "\n").strip())
    if before.strip():
        return ()
    return tuple((who, what.strip()) for who, what in zip(parts[::2], parts[1::2], strict=True))


def prompt(history: Sequence[Turn]) -> tuple[str, str]:
    """(context, query): the last human turn, and what was before it, as a served conversation is written down.

    Raises DataError when nobody asked anything.
    """
    asked = next((index for index in reversed(range(len(history))) if history[index][0] == HUMAN), None)
    if asked is None:
        raise DataError("the dialogue has no Human turn.")
    return _context(history[:asked]), history[asked][1]


def last_answer(text: str) -> tuple[tuple[Turn, ...], str]:
    """(the turns before it, the assistant's last turn). Raises DataError when the assistant says nothing at its end."""
    found = turns(text)
    if not found or found[-1][0] != ASSISTANT:
        raise DataError("the dialogue does not end with an Assistant turn.")
    return found[:-1], found[-1][1]


def parted(chosen: str, rejected: str) -> tuple[str, str, str, str]:
    """(context, query, chosen answer, rejected answer) of two dialogues that begin alike. Raises DataError.

    Where they part before their last turn, the answers are all that follows what they share.
    """
    one, other = turns(chosen), turns(rejected)
    (before, answer), (also_before, other_answer) = last_answer(chosen), last_answer(rejected)
    if before == also_before:
        return *prompt(before), answer, other_answer
    shared = len(list(takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False))))
    while shared and one[shared - 1][0] != HUMAN:
        shared -= 1
    if not shared:
        raise DataError("chosen and rejected do not begin with the same Human turn.")
    return *prompt(one[:shared]), _continued(one[shared:]), _continued(other[shared:])


def _continued(answer: Sequence[Turn]) -> str:
    """An answer with what followed it. Raises DataError when it isn't the assistant who goes on."""
    if not answer or answer[0][0] != ASSISTANT:
        raise DataError("after what chosen and rejected share, one of them has no Assistant turn.")
    return "\n".join([answer[0][1], *_lines(answer[1:])])


def _context(history: Sequence[Turn]) -> str:
    """Exchanges as `transcript` writes them; a turn without its counterpart stands alone."""
    pairs = list(zip(history[::2], history[1::2], strict=False))
    if len(history) % 2 == 0 and all((a[0], b[0]) == (HUMAN, ASSISTANT) for a, b in pairs):
        return transcript("", [(asked[1], answer[1]) for asked, answer in pairs])
    return "\n".join(_lines(history))


def _lines(history: Iterable[Turn]) -> list[str]:
    return [f"{'User' if who == HUMAN else ASSISTANT}: {what}" for who, what in history]
