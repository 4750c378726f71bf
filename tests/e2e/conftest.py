"""A failed test shows what the servers said that it asked."""

from collections.abc import Generator

import pytest

from tests.e2e.serving import what_was_said


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds it to the report; a test that passed says nothing."""
    report = yield
    if report.failed:
        report.sections += what_was_said()
    return report
