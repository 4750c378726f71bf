"""What commands print for people: safe for a terminal, whole where it is to be copied, tidy at 80 columns."""

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from rich.text import Text

from cli import output, reply
from ratchet.v1 import inference_pb2 as pb


def drawn(what: RenderableType, width: int = 80) -> list[str]:
    """Its lines on a terminal, without the spaces at their ends."""
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@given(st.text())
def test_what_acts_on_a_terminal_or_hides_is_never_shown(text: str) -> None:
    shown = output.visible(text)
    assert not {unicodedata.category(each) for each in shown if each != "\n"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert output.visible(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07\x1b[2Jgone", "]0;title[2Jgone"),
        ("\x9b31mred", "31mred"),
        ("abc\u202edcb\u2066x\u2069", "abcdcbx"),
        ("zero\u200b\u2060\ufeffwidth\U000e0041\u3164", "zerowidth"),
        ("one\r\ntwo\rthree\u2028four\tfive", "one\ntwo\nthree\nfour five"),
        ("Đổi trả Vie\u0323\u0302t 한국어 🎒", "Đổi trả Vie\u0323\u0302t 한국어 🎒"),
    ],
)
def test_the_rest_of_a_text_stays(text: str, shown: str) -> None:
    assert output.visible(text) == shown


def test_lines_of_a_text_begin_below_its_beginning() -> None:
    lines = drawn(output.hanging(Text("Tool  "), Text("word " * 12 + "\nend")), 40)
    assert lines[0].startswith("Tool  word word")
    assert len(lines) > 2
    assert all(line.startswith("      ") and line[6] != " " for line in lines[1:])


def test_pieces_that_belong_together_stay_on_a_line() -> None:
    assert drawn(output.Flow(["quality 4 ms", "log 12 ms", "x" * 30], "  "), 24) == [
        "quality 4 ms  log 12 ms",
        "x" * 24,
        "x" * 6,
    ]


def test_a_candidate_is_found_by_the_number_that_others_name_it_by() -> None:
    answer = pb.GenerateResponse(
        candidates=[pb.Candidate(index=3, text="Yes."), pb.Candidate(index=4, text="Yes.", duplicate_of=3)]
    )
    lines = drawn(reply.candidates(answer, verbose=False))
    assert lines[1].split() == ["3", "–", "Yes."]
    assert lines[2].split() == ["4", "–", "the", "same", "as", "candidate", "3"]


def test_all_texts_of_a_reply_are_safe_to_show() -> None:
    bad = "\x1b[2J\u202e"
    evidence = pb.Evidence(title=f"{bad}title", text=f"{bad}text", uri=f"{bad}uri")
    candidate = pb.Candidate(
        text=f"{bad}candidate",
        sampling=pb.Sampling(preset=f"{bad}preset"),
        findings=[pb.Finding(detail=f"{bad}finding")],
    )
    answer = pb.GenerateResponse(
        response=f"{bad}answer",
        candidates=[candidate, pb.Candidate(error=f"{bad}error")],
        tool_runs=[pb.ToolRun(tool=f"{bad}tool", detail=f"{bad}detail", evidence=[evidence])],
        citations=[pb.Citation(number=1, evidence=evidence)],
        degradations=[pb.Degradation(detail=f"{bad}degraded")],
        generation_method=f"{bad}method",
        policy_release=f"{bad}policy",
    )
    shown = "\n".join(drawn(reply.panel(f"{bad}query", answer, verbose=True)))
    for event in (
        pb.StreamGenerateResponse(candidate_drawn=candidate),
        pb.StreamGenerateResponse(tool_finished=answer.tool_runs[0]),
    ):
        shown += "\n".join(drawn(reply.event_line(event)))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    for word in (
        "query",
        "tool: [2Jdetail",
        "title",
        "text",
        "candidate",
        "preset",
        "finding",
        "error",
        "answer",
        "uri",
    ):
        assert f"[2J{word}" in shown
