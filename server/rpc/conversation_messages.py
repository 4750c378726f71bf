"""The messages of logged replies."""

from __future__ import annotations  # enum value types exist for type checkers only

from dataclasses import replace

from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import conversation_pb2 as pb
from ratchet.v1 import feedback_pb2, inference_pb2
from server.rpc import feedback_messages, messages
from server.storage.conversations import Story, Summary

LARGEST = 15 << 19
"""Bytes of a whole reply at most: gRPC messages end at 8 MiB."""
_NEWER = "A newer Ratchet wrote this row, in words that this one can't read."
_TOO_LARGE = "The reply is too large for one message: only its texts and feedback are shown."


def summary_of(summary: Summary) -> pb.ConversationSummary:
    """The message of one reply in a list."""
    message = pb.ConversationSummary(
        response_id=str(summary.response_id),
        create_time=timestamp_of(summary),
        user_id=summary.user_id,
        session_id=summary.session_id,
        query=summary.query,
        response=summary.response,
        reward_score=summary.reward_score,
        policy_release=summary.policy_release,
        reward_release=summary.reward_release,
        flags=[pb.ConversationFlag.Value(f"CONVERSATION_FLAG_{flag.name}") for flag in summary.flags],
        rating_overall=summary.rating,
        reaction_type=feedback_pb2.ReactionType.Value(f"REACTION_TYPE_{(summary.reaction or 'unspecified').upper()}"),
        candidates_count=summary.candidates_count,
        erased=summary.erased,
    )
    message.total_latency.FromNanoseconds(int(summary.total_seconds * 1e9))
    return message


def reaction_of(given: feedback_pb2.ReactionType.ValueType) -> str:
    """The thumb as the log's feedback has it; "" for none."""
    name = feedback_pb2.ReactionType.Name(given).removeprefix("REACTION_TYPE_").lower()
    return "" if name == "unspecified" else name


def conversation_of(story: Story) -> pb.Conversation:
    """The whole story, or what can be told of it: never larger than LARGEST."""
    message = _whole(story) if story.logged else _told(story, _NEWER)
    return message if message.ByteSize() <= LARGEST else _told(story, _TOO_LARGE)


def _whole(story: Story) -> pb.Conversation:
    message = _told(story, "")
    logged = story.logged
    assert logged is not None
    message.reply.CopyFrom(messages.response_of(replace(logged.reply, replayed=False)))
    message.context = logged.context
    message.summary = logged.recollection.summary
    for turn in logged.recollection.exchanges:
        message.previous_messages.add(query=turn.query, response=turn.response)
    if logged.profile is not None:
        message.user_profile.update(logged.profile.attributes)
    return message


def _told(story: Story, problem: str) -> pb.Conversation:
    """What the plain columns and the feedback tell."""
    return pb.Conversation(
        reply=inference_pb2.GenerateResponse(
            response=story.response,
            reward_score=story.reward_score,
            response_id=str(story.response_id),
            policy_release=story.policy_release,
            reward_release=story.reward_release,
            refused=story.refused,
            create_time=timestamp_of(story),
        ),
        query=story.query,
        user_id=story.user_id,
        session_id=story.session_id,
        request_id=story.request_id,
        feedback=map(feedback_messages.message_of, story.feedback),
        arm=story.arm,
        arm_share=story.arm_share,
        erased=story.erased,
        problem=problem,
    )


def timestamp_of(of: Story | Summary) -> Timestamp:
    """When the reply was made."""
    made = Timestamp()
    made.FromDatetime(of.created_at)
    return made
