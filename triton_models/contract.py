"""Tensor names, limits and sampling parameters that the Triton models and their callers agree on.

Facts only, no code: `encoder/model.py` and `policy/model.py` are self-contained and repeat what they need;
a unit test compares the two.
"""

from typing import Final, Literal

Kind = Literal["reward", "policy", "embedding", "classifier"]

VERSION: Final = "1"
"""Every release is a Triton model of its own, with this one version."""

CODE_HOME: Final = {"reward": "encoder", "policy": "policy", "embedding": "encoder", "classifier": "encoder"}
"""The folder of `triton_models` with the code of each kind."""
CODE: Final = {
    "encoder": ("model.py",),
    "policy": ("model.py", "job.py", "lanes.py", "sampling.py", "transcript.py"),
}
"""The modules that Triton's Python backend runs, copied from that folder into `1/`."""

# Encoders (reward, embedding, classifier): INT64 [k, L] in, FP32 [k, width] out.
INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
TOKEN_TYPE_IDS: Final = "token_type_ids"  # noqa: S105 - not a password
SCORE: Final = "score"
LOGIT: Final = "logit"
ASPECTS: Final = "aspects"
ASPECT_NAMES: Final = ("accuracy", "helpfulness", "clarity", "safety")
EMBEDDING: Final = "sentence_embedding"
"""An embedding's output: rows of unit length."""
PROBABILITIES: Final = "probabilities"
"""A classifier's output: one probability a label."""
REWARD_MAX_BATCH: Final = 64
"""Rows in one request, and in one dynamic batch."""
REWARD_MAX_LENGTH: Final = 512
"""Tokens in a row unless the release's manifest says less."""
BUCKETS: Final = (64, 128, 256, 512)
"""Lengths that callers pad to when a release's manifest says `batching: bucketed`."""
DEFAULT_THRESHOLD: Final = 0.6

HALF_GRAPH: Final = f"{VERSION}/model.fp16.onnx"
"""An encoder's graph for GPUs."""
HF_WEIGHTS: Final = f"{VERSION}/hf"
"""A policy's own weights and configuration, for vLLM."""

# Policy: the tensors of Triton's own vLLM backend (triton-inference-server/vllm_backend, src/model.py).
TEXT_INPUT: Final = "text_input"
STREAM: Final = "stream"
SAMPLING_PARAMETERS: Final = "sampling_parameters"
EXCLUDE_INPUT: Final = "exclude_input_in_output"
RETURN_FINISH_REASON: Final = "return_finish_reason"
RETURN_INPUT_TOKENS: Final = "return_num_input_tokens"
RETURN_OUTPUT_TOKENS: Final = "return_num_output_tokens"
TEXT_OUTPUT: Final = "text_output"
FINISH_REASON: Final = "finish_reason"
NUM_INPUT_TOKENS: Final = "num_input_tokens"
NUM_OUTPUT_TOKENS: Final = "num_output_tokens"
QUEUE_FULL: Final = "queue is full"
"""Stands in the error of a policy that takes no more requests for now: a stream's errors are texts without a code."""
UNLOADING: Final = "is unloading"
"""Stands in the error of a policy that is being taken away."""

SAMPLING_NAMES: Final = frozenset(
    {"temperature", "top_p", "top_k", "max_tokens", "min_tokens", "seed", "stop", "repetition_penalty"}
)
"""The keys a `sampling_parameters` object may have; any other one is refused by name."""
MAX_STOP_STRINGS: Final = 16
MAX_NEW_TOKENS: Final = 4096
"""More `max_tokens` than this are capped, as is what does not fit the model's window."""
