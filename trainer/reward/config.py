"""The settings of one reward training run. Unknown names fail; the specification's values are the defaults."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(Part):
    """Which data, how they are cleaned, paired and split."""

    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    user_share: Share = 0.25  # of the validation part: users that are only there
    temporal: bool = True  # the newest for validation
    minimum_gap: Share = 0.125  # ratings nearer than this (half a star) are ties
    user_cap: Share = 0.05  # the largest share of the judgements that one rater may hold
    propensity_clip: Positive = 10.0  # the largest inverse selection probability
    most_feedback: Annotated[int, Field(ge=1)] = 200_000  # older rows than the newest so many stay out
    reviewer_weight: Positive = 3.0  # of a label from the review queue


class AugmentConfig(Part):
    """What is made up beside the train part; nothing by default."""

    paraphrase_model: str = ""  # a T5 or BART model's name or path
    forward_model: str = ""  # translates to another language ...
    backward_model: str = ""  # ... and this one back
    share: Share = 0.25  # of the queries
    embedding_noise: Annotated[float, Field(ge=0)] = 0.0  # NEFTune's alpha (Jain et al. 2023)


class TrainConfig(Part):
    """The optimiser and the loss: alpha * MSE + beta * ranking."""

    learning_rate: Positive = 2e-5
    scale_rate: bool = True  # more for narrow encoders: see schedule.py; off when a learning_rate is named without it
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16  # responses
    max_epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    warmup_share: Share = 0.1  # of all steps, at most
    max_norm: Positive = 1.0  # of the gradient
    alpha: Annotated[float, Field(ge=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 1.0
    aspect_weight: Annotated[float, Field(ge=0)] = 0.5  # of the aspects' MSE in the loss
    margin_scale: Annotated[float, Field(ge=0)] = 1.0  # logits for a gap of 1 in ratings
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    centering: Annotated[float, Field(ge=0)] = 0.01  # of the squared sum of a pair's logits (Eisenstein et al. 2023)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=1)] = 2  # epochs without a better validation loss
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    bucket: bool = True  # responses of about equal length together
    # Of each question in an epoch, from bad to good, drawn anew; 0: all. More cost as much and teach little more.
    responses_per_question: Annotated[int, Field(ge=0)] = 4
    max_length: Annotated[int, Field(ge=16, le=512)] = 512  # tokens
    checkpoint_minutes: Positive = 5.0
    threads: Annotated[int, Field(ge=0)] = 0  # of torch; 0: its own choice

    @model_validator(mode="before")
    @classmethod
    def _take_a_named_rate_as_it_is(cls, asked: Any) -> Any:
        if isinstance(asked, Mapping) and "learning_rate" in asked:
            return {"scale_rate": False, **asked}
        return asked


class GateConfig(Part):
    """What the new model must show before it becomes a release."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    not_inferior: Share = 0.05  # pairwise accuracy that the interval's lower end may lie below the one in service
    group_bound: Share = 0.1  # the largest loss of pairwise accuracy in any group with enough pairs
    group_minimum: Annotated[int, Field(ge=1)] = 50  # pairs
    most_ece: Share = 0.1
    least_pairs: Annotated[int, Field(ge=1)] = 50  # validation pairs, below which nothing can be told


class ExportConfig(Part):
    """What a release can be served by, besides CPUs."""

    target: Literal["onnx", "onnx-fp16", "tensorrt"] = "onnx"  # as `ratchet export`; a plan is for the GPU that trains


class RewardConfig(Part):
    """All settings of a run."""

    base: str = "auto"  # a name or path; auto: roberta-base where it can be had, else the starter's encoder
    seed: int = 1
    seeds: Annotated[int, Field(ge=1, le=10)] = 1  # more than one: an ensemble
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    gate: GateConfig = GateConfig()
    export: ExportConfig = ExportConfig()
