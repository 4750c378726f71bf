"""What libraries log, in the words of an operator."""

import logging

from server.errors import told


class OneSentence(logging.Filter):
    """Puts the error of a record into its sentence, in place of a trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            record.msg, record.args = "%s: %s", (record.getMessage(), told(error))
            record.exc_info = record.exc_text = None
        return True


def quieten() -> None:
    """A Postgres that is away is no defect: asyncpg's pool, which tries again by itself, says so without a trace."""
    pool = logging.getLogger("asyncpg.pool")
    if not any(isinstance(each, OneSentence) for each in pool.filters):
        pool.addFilter(OneSentence())
