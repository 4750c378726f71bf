"""Prometheus metrics of the request path. Names of the gRPC ones follow go-grpc-prometheus (see rpc/interceptors.py).

With several processes each writes its values to PROMETHEUS_MULTIPROC_DIR, and whoever serves /metrics adds them up; the
variable must be set before this module is imported.
"""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

STAGE_SECONDS = Histogram(
    "ratchet_stage_seconds", "Time spent in each stage of the request path.", ["stage"], buckets=_SECONDS
)
REPLY_SECONDS = Histogram(
    "ratchet_reply_seconds",
    "Time from request to reply, by the release that wrote the reply.",
    ["policy_release"],
    buckets=_SECONDS,
)
DEGRADATIONS = Counter(
    "ratchet_degradations_total", "Replies that fell short of the usual path, by reason.", ["reason"]
)
REWARD_SCORES = Histogram(
    "ratchet_reward_score",
    "Reward scores of the chosen answers, by the release that scored.",
    ["release"],
    buckets=tuple(edge / 20 for edge in range(1, 21)),
)
TOOL_RUNS = Counter("ratchet_tool_runs_total", "Runs of tools, by tool and how they ended.", ["tool", "outcome"])
TOOL_SECONDS = Histogram("ratchet_tool_seconds", "Time of one run of a tool.", ["tool"], buckets=_SECONDS)
SCORES = Counter("ratchet_scores_total", "Scores of candidates, by where they came from.", ["source"])
LOG_BATCH = Histogram(
    "ratchet_log_batch_rows", "Rows that one insert made durable.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
LOG_SECONDS = Histogram("ratchet_log_insert_seconds", "Time of one insert of log rows.", buckets=_SECONDS)
SPOOLED_ROWS = Counter("ratchet_log_spooled_rows_total", "Log rows that went to the spool instead of Postgres.")
REPLAYED_ROWS = Counter("ratchet_log_replayed_rows_total", "Log rows that went from the spool to Postgres.")
SPOOL_BYTES = Gauge("ratchet_spool_bytes", "Bytes of log rows that wait for Postgres.", multiprocess_mode="livesum")
SPOOL_AGE = Gauge("ratchet_spool_age_seconds", "Age of the oldest of these rows' files.", multiprocess_mode="livemax")
IN_FLIGHT = Gauge("ratchet_calls_in_flight", "Calls that are being answered.", multiprocess_mode="livesum")
GRPC_STARTED = Counter(
    "grpc_server_started_total", "RPCs started on the server.", ["grpc_type", "grpc_service", "grpc_method"]
)
GRPC_HANDLED = Counter(
    "grpc_server_handled_total",
    "RPCs completed on the server, regardless of success or failure.",
    ["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
)
GRPC_SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "Response latency of RPCs that were handled by the server.",
    ["grpc_type", "grpc_service", "grpc_method"],
    buckets=_SECONDS,
)
LESSONS = Counter(
    "ratchet_profile_lessons", "Queries and ratings that user profiles learned from, or did not.", ["outcome"]
)
FEEDBACK = Counter(
    "ratchet_feedback_total",
    "Feedback that was given, edited, withdrawn or repeated unchanged, by the release that wrote the reply.",
    ["kind", "policy_release", "outcome"],
)
RATINGS = Histogram(
    "ratchet_feedback_rating",
    "Stars as they were given, or changed to, by the release that wrote the reply.",
    ["policy_release"],
    buckets=(1, 2, 3, 4, 5),
)
SAFETY_REPORTS = Counter(
    "ratchet_safety_reports_total", "Safety reports, by the release that wrote the reply.", ["policy_release"]
)
FEEDBACK_LIMITED = Counter("ratchet_feedback_limited_total", "Feedback that was refused because a user gave too much.")
SHADOW_ANSWERS = Counter(
    "ratchet_shadow_answers_total",
    "Requests that fell to a challenger in shadow: answered, failed (it gave nothing), lost (nothing could be compared"
    " or kept), busy or dropped (not tried, the server had other things to do).",
    ["outcome"],
)
