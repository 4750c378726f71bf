"""Letters without their marks: "Đơn hàng" and "don hang" become the same. Pure."""

import unicodedata


def folded(text: str) -> str:
    """In lower case, in compatibility forms and without diacritics; đ, which has none, is a d all the same."""
    letters = unicodedata.normalize("NFKD", text.casefold()).replace("đ", "d")
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def unmarked(word: str) -> str:
    """A word in lower case without diacritics; what is nothing but marks stays as it is."""
    letters = unicodedata.normalize("NFD", word.replace("đ", "d"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter)) or word
