"""The columns of exports: names, types and meanings, for files, for their schema and for who reads them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

TIME = "timestamp[us, tz=UTC]"
"""In JSON Lines: RFC 3339 with microseconds and Z."""


@dataclass(frozen=True, slots=True)
class Column:
    """`type` is one of string, bool, int32, int64, float64 and TIME, or the columns of a struct; `many`: a list of it.
    Any value can be null but those of lists, which are empty instead."""

    name: str
    type: "str | tuple[Column, ...]"
    meaning: str = ""
    many: bool = False

    @property
    def described(self) -> str:
        """The type in a line, such as `list of {name, value}`."""
        inner = self.type if isinstance(self.type, str) else "{" + ", ".join(each.name for each in self.type) + "}"
        return f"list of {inner}" if self.many else inner


_EVIDENCE = (
    Column("tool", "string"),
    Column("source", "string"),
    Column("title", "string"),
    Column("text", "string"),
    Column("uri", "string"),
    Column("score", "float64"),
)
_STARS = tuple(Column(name, "int32") for name in ("accuracy", "helpfulness", "clarity", "safety"))
_ASPECTS = tuple(Column(name, "float64") for name in ("accuracy", "helpfulness", "clarity", "safety"))
FEEDBACK = (
    Column("feedback_id", "string", "stays the same through edits"),
    Column("kind", "string", "rating, safety_report or preference"),
    Column("response_id", "string", "the reply"),
    Column("user_id", "string", "empty for anonymous users"),
    Column("session_id", "string"),
    Column("rating_overall", "int32", "1 to 5 stars; null: not given"),
    Column("rating_dimensions", _STARS, "1 to 5 each; null: not given"),
    Column("reaction_type", "string", "thumbs_up, thumbs_down or neutral; null: none"),
    Column("text_feedback", "string", "the comment, or the words of a report"),
    Column("safety_category", "string", "toxic, dangerous, privacy, misleading or other; null: not said"),
    Column("chosen_index", "int32", "of a preference: the better candidate"),
    Column("rejected_index", "int32", "of a preference: the worse candidate"),
    Column("revision", "int32", "from 1; each edit adds one"),
    Column("withdrawn", "bool", "whether it was taken back"),
    Column("create_time", TIME, "when it was first given"),
    Column("update_time", TIME, "when it was last changed"),
    Column("policy_release", "string", "the release that wrote the reply"),
    Column("reward_release", "string", "the release that scored it; empty: none"),
    Column("arm", "string", "of an experiment or rollout; champion outside of them"),
    Column("arm_share", "float64", "the arm's share of the traffic"),
    Column("selection_probability", "float64", "with which the reply was chosen among its candidates"),
    Column("is_training_data", "bool", "whether a training run has used it"),
)
"""One row a feedback, as it is now."""
_CANDIDATE = (
    Column("index", "int32"),
    Column("text", "string"),
    Column("reward_score", "float64"),
    Column("reward_logit", "float64"),
    Column("aspects", _ASPECTS),
    Column("selected", "bool"),
    Column("selection_probability", "float64"),
    Column("passed", "bool"),
    Column("preset", "string"),
    Column("temperature", "float64"),
    Column("top_p", "float64"),
    Column("top_k", "int32"),
    Column("seed", "int64"),
    Column("finish_reason", "string"),
    Column("output_tokens", "int32"),
    Column("seconds", "float64"),
    Column("error", "string"),
    Column("wave", "int32"),
    Column("duplicate_of", "int32"),
    Column("score_source", "string"),
    Column(
        "findings",
        (Column("check", "string"), Column("passed", "bool"), Column("value", "float64"), Column("detail", "string")),
        many=True,
    ),
)
_RUN = (
    Column("tool", "string"),
    Column("outcome", "string"),
    Column("relevance", "float64"),
    Column("seconds", "float64"),
    Column("detail", "string"),
    Column("evidence", _EVIDENCE, many=True),
)
LOGS = (
    Column("response_id", "string", "identifies the reply (UUIDv7)"),
    Column("create_time", TIME, "when the reply was made"),
    Column("user_id", "string", "who asked; empty for anonymous users"),
    Column("session_id", "string", "the conversation; empty for none"),
    Column("request_id", "string", "the id that the request brought; empty for none"),
    Column("query", "string"),
    Column("context", "string", "what the caller gave"),
    Column("previous_messages", (Column("query", "string"), Column("response", "string")), "earlier turns", many=True),
    Column("summary", "string", "what stood for turns that had fallen out of the memory"),
    Column(
        "user_profile", (Column("name", "string"), Column("value", "string")), "attributes in the prompt", many=True
    ),
    Column("response", "string", "the answer"),
    Column("reward_score", "float64", "0 to 1; null: no model scored it"),
    Column("generation_method", "string", "the sampling preset of the answer"),
    Column("selection_method", "string", "best, weighted, ensemble or rules"),
    Column("selection_probability", "float64", "with which the answer was chosen among the candidates"),
    Column("policy_release", "string", "the release that wrote it"),
    Column("reward_release", "string", "the release that scored it; empty: none"),
    Column("arm", "string", "of an experiment or rollout; champion outside of them"),
    Column("arm_share", "float64", "the arm's share of the traffic"),
    Column("seed", "int64"),
    Column("refused", "bool", "whether no candidate passed the checks"),
    Column("refusal_reasons", "string", "why", many=True),
    Column("regenerated", "bool", "whether a second round was drawn"),
    Column("explored", "bool", "whether it belongs to the share that explores"),
    Column("profile_used", "bool"),
    Column("candidates", _CANDIDATE, "all that were drawn, in their order, failed ones too", many=True),
    Column("tool_runs", _RUN, "what the tools found", many=True),
    Column(
        "citations",
        (Column("number", "int32"), Column("support", "float64"), *_EVIDENCE),
        "what the answer rests on",
        many=True,
    ),
    Column("latencies", (Column("stage", "string"), Column("seconds", "float64")), "in the path's order", many=True),
    Column("total_seconds", "float64"),
    Column(
        "degradations", (Column("reason", "string"), Column("detail", "string")), "what fell short of usual", many=True
    ),
    Column("erased", "bool", "whether the user was erased: texts are gone, ids stand for nobody"),
    Column("problem", "string", "why not all of the row is here; empty in the normal case"),
    Column("feedback", FEEDBACK, "the current feedback, withdrawn ones too", many=True),
)
"""One row a reply."""
KINDS: Mapping[str, Sequence[Column]] = {"logs": LOGS, "feedback": FEEDBACK}


def arrow_schema(columns: Sequence[Column]) -> "pa.Schema":
    """The schema of Parquet files: the same for all, empty ones too."""
    import pyarrow as pa

    return pa.schema([pa.field(each.name, _arrow(each)) for each in columns])


def _arrow(column: Column) -> "pa.DataType":
    import pyarrow as pa

    inner: pa.DataType
    if isinstance(column.type, tuple):
        inner = pa.struct([pa.field(each.name, _arrow(each)) for each in column.type])
    elif column.type == TIME:
        inner = pa.timestamp("us", "UTC")
    else:
        inner = pa.type_for_alias(column.type)
    return pa.list_(inner) if column.many else inner


def features(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """The columns as a dataset card of Hugging Face `datasets` declares them."""
    return [{"name": each.name, **_feature(each)} for each in columns]


def _feature(column: Column) -> dict[str, Any]:
    if isinstance(column.type, tuple):
        return {"list" if column.many else "struct": features(column.type)}
    return {"list": column.type} if column.many else {"dtype": column.type}


def times(columns: Sequence[Column]) -> Iterator[tuple[str, ...]]:
    """The paths of the columns that hold times."""
    for each in columns:
        if each.type == TIME:
            yield (each.name,)
        elif isinstance(each.type, tuple):
            yield from ((each.name, *below) for below in times(each.type))
