"""Requests that break a rule of the protos are refused in words that fit the rule."""

from collections.abc import Iterator

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor

from ratchet.v1 import (
    alert_pb2,
    analytics_pb2,
    conversation_pb2,
    document_pb2,
    feedback_pb2,
    inference_pb2,
    training_pb2,
    user_pb2,
)
from ratchet.v1 import inference_pb2 as pb
from server.errors import InvalidRequest
from server.rpc import validation

FILES = (inference_pb2, user_pb2, document_pb2, feedback_pb2, conversation_pb2, analytics_pb2, alert_pb2, training_pb2)


def refused(**fields: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        validation.require_valid(pb.GenerateRequest(**{"query": "q", **fields}))  # type: ignore[arg-type]
    return str(caught.value)


def test_an_id_is_one_line_and_a_text_may_have_many() -> None:
    assert refused(user_id="a\nb") == "user_id: must be one line without control characters"
    assert refused(context="a\x00") == (
        "context: must not contain control characters other than tab, line feed and carriage return"
    )
    assert refused(tools=["SQL"]) == "tools[0]: must be small letters, digits and underscores, a letter first"
    validation.require_valid(pb.GenerateRequest(query="a\nb", context="a\tb"))


def patterns() -> Iterator[str]:
    for file in FILES:
        for message in file.DESCRIPTOR.message_types_by_name.values():
            for field in message.fields:
                yield from _of(field)


def _of(field: FieldDescriptor) -> Iterator[str]:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    yield from (rules.string.pattern, rules.repeated.items.string.pattern)


def test_every_pattern_of_the_protos_is_said_in_words() -> None:
    assert {each for each in patterns() if each} == set(validation._PATTERNS)


def test_a_rule_of_the_whole_message_names_no_field() -> None:
    with pytest.raises(InvalidRequest) as caught:
        validation.require_valid(feedback_pb2.SubmitFeedbackRequest(response_id="0190b5a4-1111-7222-8333-444455556666"))
    assert [each.field for each in caught.value.violations] == [""]
    assert str(caught.value).startswith("must hold a rating")
