"""The commands of a client: what they refuse, and what they say of a call that failed."""

import grpc
import pytest
from click.testing import CliRunner

from cli import ask, client, docs
from cli.main import ratchet


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "-inf", "soon", ""])
def test_a_deadline_that_is_none_is_refused_before_anything_is_asked(seconds: str) -> None:
    done = CliRunner().invoke(ask.command, ["Hello", f"--timeout={seconds}", "--address", "127.0.0.1:1"])
    assert done.exit_code == 2
    assert f"'--timeout': '{seconds}' is no number of seconds over 0." in done.output


class Silence(grpc.RpcError):
    """A call whose deadline passed without a word from the server."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.DEADLINE_EXCEEDED

    def details(self) -> str:
        return "Deadline Exceeded"

    def trailing_metadata(self) -> tuple[()]:
        return ()


def test_a_deadline_that_passed_is_said_with_its_length_and_a_remedy() -> None:
    assert client.sentence("127.0.0.1:1", 0.01, Silence()) == "No answer within 0.01 s: pass a longer --timeout."


@pytest.mark.parametrize(
    ("failed", "of", "said"),
    [
        (1, 1, "The document could not be added."),
        (1, 2, "1 of the 2 documents could not be added."),
        (2, 2, "None of the 2 documents could be added."),
    ],
)
def test_documents_that_could_not_be_added_are_counted_in_a_sentence(failed: int, of: int, said: str) -> None:
    assert docs._could_not(failed, of) == said


@pytest.mark.parametrize("group", ["docs", "user", "releases", "rollout", "experiment"])
def test_the_help_of_a_group_cuts_no_line(group: str) -> None:
    done = CliRunner().invoke(ratchet, [group, "--help"], terminal_width=80)
    assert done.exit_code == 0
    assert "..." not in done.output.partition("Commands:")[2]
