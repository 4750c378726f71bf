"""Tokens to text while they are generated."""

from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"  # what decoders give for a part of a character


class Transcript:
    """Text of a growing list of tokens: whole characters only, cut before the first stop string.

    `live` says whether the text is wanted on the way; if not, and without stop strings, it is decoded once,
    at the end.
    """

    def __init__(self, tokenizer: Tokenizer, stops: tuple[str, ...], live: bool) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._live = live or bool(stops)
        self._ids: list[int] = []
        self._start = 0  # decoding starts here: some decoders treat the first token of a text differently
        self._read = 0  # tokens before this one are in `text`
        self._sent = 0
        self.text = ""

    def add(self, token: int) -> bool:
        """Takes one more token; True when a stop string is complete."""
        self._ids.append(token)
        if not self._live:
            return False
        new = self._pending()
        # A character has at most 4 bytes: what is still broken after 8 tokens is not going to be whole.
        if not new or (new.endswith(REPLACEMENT) and len(self._ids) - self._read < 8):
            return False
        self._start, self._read = self._read, len(self._ids)
        return self._append(new)

    def close(self) -> bool:
        """Takes what was held back but for half a character; True when that completes a stop string."""
        return self._append(self._pending().rstrip(REPLACEMENT))

    def delta(self, last: bool) -> str:
        """The text since the last call, without an end that may yet become a stop string."""
        end = len(self.text) - (0 if last else self._held())
        piece, self._sent = self.text[self._sent : end], max(self._sent, end)
        return piece

    def _pending(self) -> str:
        known = self._tokenizer.decode(self._ids[self._start : self._read])
        return str(self._tokenizer.decode(self._ids[self._start :])[len(known) :])

    def _append(self, new: str) -> bool:
        before = len(self.text)
        self.text += new
        found = [at for stop in self._stops if (at := self.text.find(stop, max(0, before - len(stop) + 1))) >= 0]
        if found:
            self.text = self.text[: min(found)]
        return bool(found)

    def _held(self) -> int:
        lengths = (n for stop in self._stops for n in range(1, len(stop)) if self.text.endswith(stop[:n]))
        return max(lengths, default=0)
