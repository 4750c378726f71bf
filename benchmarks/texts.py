"""What the benchmarks ask: texts of a known length in the release's own tokens."""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from tokenizers import Tokenizer

QUERIES = (
    "How long does delivery take?",
    "Can I return shoes that I wore once?",
    "Đơn hàng của tôi bao lâu thì tới?",
    "How do I use a gift card?",
    "Tôi muốn đổi sang cỡ khác thì làm thế nào?",
    "My jacket has a broken zip, what now?",
    "Which ways to pay do you take?",
    "Làm sao để được hoàn tiền?",
)
_PROSE = """You can return any item within thirty days of delivery if it is unworn and in its box . Open the orders
page , choose the item and print the label ; the refund reaches your card in five to seven days after we receive it ."""
_WORDS = tuple(_PROSE.split())


def responses(release: Path, *, count: int, tokens: int, variant: int) -> list[str]:
    """`count` different texts of `tokens` tokens each (one less or more at a word's border); differs by `variant`."""
    tokenizer = Tokenizer.from_file(str(release / "tokenizer" / "tokenizer.json"))
    return [_text(tokenizer, tokens, variant * count + index) for index in range(count)]


def _text(tokenizer: Tokenizer, tokens: int, offset: int) -> str:
    words: Iterator[str] = islice(cycle(_WORDS), offset % len(_WORDS), None)
    text = str(offset)
    while len(tokenizer.encode(text, add_special_tokens=False).ids) < tokens:
        text += " " + " ".join(islice(words, 4))
    ids = tokenizer.encode(text, add_special_tokens=False).offsets
    return text[: ids[tokens - 1][1]]
