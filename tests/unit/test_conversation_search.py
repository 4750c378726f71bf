"""What the search of the log takes for granted."""

import re
import unicodedata

from server.storage.conversation_search import _PLAIN


def test_the_letters_that_are_not_normalised_are_in_their_normal_form_wherever_they_stand() -> None:
    """By UAX #15 (9): each is stable by itself, and none is a mark that others could be composed with."""
    plain = [chr(code) for code in range(0x10000) if re.match(f"[{_PLAIN}]", chr(code))]
    assert {"a", "Đ", "ệ", "ư", "\u201c", "…"} <= set(plain)
    assert all(unicodedata.is_normalized("NFC", each) and not unicodedata.combining(each) for each in plain)
