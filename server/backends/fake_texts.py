"""The answers of the fake backend: sentences that hold together, say that no model wrote them, and claim nothing.

They are in the language of the query, English or Vietnamese, name no number, and say that they can't answer: the
quality checks let them through, with evidence and without.
"""

import re
from dataclasses import dataclass

from server.quality import language

_MARK = re.compile(r"<\|[^|<>]*\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>")
"""What chat templates write between turns."""
_LAST = 4_000
"""Characters of a prompt's turn that are read for its language."""


@dataclass(frozen=True, slots=True)
class _Sentences:
    """What an answer is put together from; `name` tells samples apart by a word of `first` and one of `second`."""

    openings: tuple[str, ...]
    reasons: tuple[str, ...]
    name: str
    first: str
    second: str


_ENGLISH = _Sentences(
    (
        "Thank you for your message.",
        "Thanks for asking.",
        "It is good to hear from you.",
        "I have read what you wrote.",
        "Your message has arrived here.",
        "It is kind of you to ask.",
        "You have come to the right place.",
        "I am glad that you wrote.",
    ),
    (
        "No model wrote this: the fake backend can only answer with samples such as this text.",
        "This is a sample for developers: without a model I can only answer in this way.",
        "There is no model behind this text, so I do not know what you asked about.",
        "I can only answer with a sample, as the server runs on the fake backend, without any model.",
        "The fake backend made this sample; it has no model and can only help you to build on the API.",
    ),
    "This sample has the name {first} {second}.",
    "amber blue bright calm clear early gentle golden green light mild quiet round silver soft warm",
    "brook cloud field forest garden harbour hill island lake meadow morning path river shore valley wind",
)
_VIETNAMESE = _Sentences(
    (
        "Cảm ơn bạn đã nhắn tin.",
        "Rất vui được nghe từ bạn.",
        "Mình đã đọc lời nhắn của bạn.",
        "Lời nhắn của bạn đã đến nơi.",
        "Cảm ơn bạn đã hỏi.",
        "Bạn hỏi rất đúng chỗ.",
        "Chào bạn, mình đã nhận được lời nhắn.",
        "Mình rất mừng vì bạn đã viết.",
    ),
    (
        "Không có mô hình nào viết câu này: máy chủ giả chỉ có thể trả lời bằng câu mẫu.",
        "Đây là câu mẫu cho người lập trình, vì máy chủ chưa có mô hình nào.",
        "Phía sau câu này không có mô hình, nên mình không biết điều bạn hỏi.",
        "Mình chỉ có thể trả lời bằng câu mẫu, vì máy chủ giả chạy mà không có mô hình.",
        "Máy chủ giả đã ghép câu mẫu này; nó không có mô hình và chỉ giúp bạn thử các lời gọi.",
    ),
    "Câu mẫu này có tên là {first} {second}.",
    "sông suối đồi rừng vườn biển đảo hồ gió mây nắng đường làng bến thung cánh",
    "xanh êm trong ấm sáng dịu rộng vàng mới lành tươi biếc vắng thơm đẹp hiền",
)


def answer(prompt: str, digest: int) -> str:
    """The text that `digest` (64 bits) chooses, in the language that `prompt` ends in."""
    sentences = _VIETNAMESE if _language(prompt) == "vi" else _ENGLISH
    chosen = []
    for choices in (sentences.openings, sentences.reasons, sentences.first.split(), sentences.second.split()):
        digest, at = divmod(digest, len(choices))
        chosen.append(choices[at])
    opening, reason, first, second = chosen
    return f"{opening} {reason} {sentences.name.format(first=first, second=second)}"


def _language(prompt: str) -> str:
    """The language of the last turn that has one."""
    turns = (language.detect(turn[-_LAST:]) for turn in reversed(_MARK.split(prompt)) if turn.strip())
    return next((found for found in turns if found), "")
