"""Numbers as the visitor's language writes them."""

from console import session

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SWAPPED = str.maketrans(",.", ".,")


def number(value: float, digits: int = 0, unit: str = "") -> str:
    """`1,234.5 ms` in English, `1.234,5 ms` in Vietnamese; a unit that begins with a letter stands apart."""
    written = f"{value:,.{digits}f}"
    if session.language() == "vi":
        written = written.translate(_SWAPPED)
    return f"{written} {unit}" if unit[:1].isalpha() else f"{written}{unit}"


def tiny(value: float) -> str:
    """What has too many noughts to be read: `1.5 × 10⁻⁶` in English, `1,5 × 10⁻⁶` in Vietnamese."""
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{number(float(digits), 1)} × 10{str(int(exponent)).translate(_RAISED)}"


def share(part: float, whole: float) -> float | None:
    """Percent; None of nothing."""
    return 100.0 * part / whole if whole else None
