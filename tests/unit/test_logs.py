"""What libraries log reaches the operator as sentences."""

import logging

import pytest

from server import logs


@pytest.fixture
def pool() -> logging.Logger:
    """asyncpg's logger, as the server sets it up; twice, as starting again in one process would."""
    logs.quieten()
    logs.quieten()
    return logging.getLogger("asyncpg.pool")


def test_a_pool_that_waits_for_postgres_says_so_in_one_line(
    pool: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise ConnectionRefusedError(111, "Connect call failed\nDETAIL: x")
    except ConnectionRefusedError:
        pool.warning("Failed to restore the pool connection floor; retrying", exc_info=True)
    (record,) = caplog.records
    told = logging.Formatter("%(levelname)s %(name)s: %(message)s").format(record)
    words = "Failed to restore the pool connection floor; retrying: [Errno 111] Connect call failed"
    assert told == f"WARNING asyncpg.pool: {words}"


def test_other_records_stay_as_they_are(pool: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    pool.warning("%d connections", 3)
    assert caplog.messages == ["3 connections"]


def test_the_logger_is_the_one_that_asyncpg_uses(pool: logging.Logger) -> None:
    from asyncpg import pool as module

    assert module.logger is pool  # type: ignore[attr-defined]
