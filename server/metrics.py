"""Prometheus metrics of the request path. Names of the gRPC ones follow go-grpc-prometheus (see rpc/interceptors.py).

With several processes each writes its values to PROMETHEUS_MULTIPROC_DIR, and whoever serves /metrics adds them up; the
variable must be set before this module is imported.
"""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

STAGE_SECONDS = Histogram(
    "ratchet_stage_seconds", "Time spent in each stage of the request path.", ["stage"], buckets=_SECONDS
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
LOG_BATCH = Histogram(
    "ratchet_log_batch_rows", "Rows that one insert made durable.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
LOG_SECONDS = Histogram("ratchet_log_insert_seconds", "Time of one insert of log rows.", buckets=_SECONDS)
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
