"""What is told of errors that others raised."""

import asyncpg
import pytest

from server.errors import told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "TimeoutError"),
        (OSError(111, "Connection refused"), "[Errno 111] Connection refused"),
        (ValueError("\n first \n second"), "first"),
        (OSError("The connection was closed."), "The connection was closed"),
        (OSError("..."), "OSError"),
    ],
)
def test_an_error_is_told_in_one_line_and_by_its_class_where_it_says_nothing(error: Exception, words: str) -> None:
    assert told(error) == words


def test_the_lines_in_which_postgres_quotes_a_row_are_not_told() -> None:
    error = asyncpg.PostgresError.new(
        {"S": "ERROR", "C": "23514", "M": "violates a check", "D": "Row contains (secret)."}
    )
    assert told(error) == "violates a check"
