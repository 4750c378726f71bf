"""What a conversion can fail with: one sentence that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


class ExportError(Exception):
    """A model that can't be converted; its text is one sentence for the person who named it."""


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns any other error inside into an ExportError that starts with `what`."""
    try:
        yield
    except ExportError:
        raise
    except MemoryError:
        raise ExportError(f"{what}: not enough memory; use a machine with more, or a smaller model.") from None
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"{what}: {lines[0].rstrip('.')[:300]}.") from error
