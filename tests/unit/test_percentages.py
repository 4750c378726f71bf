"""Shares that options take: in percent, and what is wrong is said in percent."""

import pytest
from click.testing import CliRunner

from cli import percentages
from cli.main import ratchet


@pytest.mark.parametrize(
    ("text", "part"), [("10", 0.1), (" 12.5 ", 0.125), ("100", 1.0), ("0.5%", 0.005), ("5 %", 0.05), ("1", 0.01)]
)
def test_percent_become_a_part(text: str, part: float) -> None:
    assert percentages.read(text, 0.01, 100) == part


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.1", "0.1 is less than 1 percent: write 10 for a part of 0.1, or 0.1%."),
        ("60", "60 % is not from 0.01 to 50 %."),
        ("0", "0 % is not from 0.01 to 50 %."),
        ("-3", "-3 % is not from 0.01 to 50 %."),
        ("nan", "nan % is not from 0.01 to 50 %."),
        ("inf", "inf % is not from 0.01 to 50 %."),
        ("", "'' is no percentage such as 10."),
        ("mười", "'mười' is no percentage such as 10."),
    ],
)
def test_what_is_none_is_refused_in_percent(text: str, told: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the whole sentence is compared
        percentages.read(text, 0.01, 50)
    assert str(refused.value) == told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("rollout", "start", "r", "--holdback", "0.1"), "less than 1 percent"),
        (("rollout", "start", "r", "--holdback", "60"), "60 % is not from 0.01 to 50 %"),
        (("rollout", "start", "r", "--stages", "0.1,0.5,1"), "less than 1 percent"),
        (("rollout", "start", "r", "--stages", "10,500"), "500 % is not from 0.01 to 100 %"),
        (("rollout", "start", "r", "--stages", "10,"), "percentages such as 10,50,100"),
        (("experiment", "start", "x", "--interface", "--share", "500"), "500 % is not from 0.1 to 90 %"),
        (("experiment", "start", "x", "--interface", "--share", "0.5"), "less than 1 percent"),
        (("rollout", "show", "garbage"), "'garbage' is no rollout: give an id"),
    ],
)
def test_commands_refuse_before_they_ask(arguments: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(ratchet, [*arguments, "--address", "127.0.0.1:1"])
    assert (done.exit_code, told in done.output) == (2, True), done.output
