"""What is found out about a reward model: the types that evaluation fills, the gate judges and the report shows.

Every number that could not be told is None: no sentinel, no NaN. Scores, ratings and residuals are 0..1 units,
accuracies shares of 1, where a tie counts half.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from trainer.data.records import Exclusion

VERSION: Final = 1
"""Of the report as JSON: a change of a name or a meaning raises it."""

LONGEST: Final = "longest"
TFIDF: Final = "tfidf"
SERVICE: Final = "service"
BASELINES: Final[Mapping[str, str]] = {
    LONGEST: "longer wins",
    TFIDF: "TF-IDF and logistic regression",
    SERVICE: "the release in service",
}
"""Names of what the new model is compared with, and what they are called in sentences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What the new model gives one response: the logit that would be served, uncalibrated, and aspects of 0..1.

    `members` are the logits of every model of an ensemble, the served one first; empty: there is no ensemble.
    """

    logit: float
    aspects: Mapping[str, float] = field(default_factory=dict)
    members: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its interval over `clusters` that were drawn anew, from `count` pairs, responses or questions."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    count: int = 0
    clusters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How well scores order responses. `gain`: the share of the possible best-of-N gain, on questions of >= 2 ratings.

    `similar` is the accuracy on pairs of similar length (character ratio 0.8 to 1.25).
    """

    accuracy: Estimate
    similar: Estimate
    spearman: Estimate
    gain: Estimate
    kinds: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How near scores of 0..1 come to the ratings."""

    mse: Estimate
    mae: Estimate
    pearson: Estimate
    residual: Estimate  # mean of score - rating: above 0, the model flatters


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A baseline on the same rows. `difference` is the new model's accuracy minus its, pair by pair."""

    name: str  # one of BASELINES
    label: str  # such as "reward-000001"
    ranking: Ranking
    difference: Estimate
    difference_similar: Estimate
    fit: Fit | None = None  # where its scores are meant as ratings: the release in service


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One of the reliability plot's bins of about equally many rows: mean score and mean rating."""

    score: float
    rating: float
    count: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How far scores can be taken at their word. `floor` is the ECE that chance alone gives a perfect model here."""

    ece: float | None
    brier: float | None
    floor: float | None
    bins: tuple[Bin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What turns logits into scores: sigmoid(logit / temperature), the temperature fitted on the validation part.

    All figures are cross-fitted: no row is judged by a fit that saw its cluster. `on` is "ratings", or "preferences"
    where there are too few ratings (then a score says how probably one response is preferred to another), or "nothing".
    """

    temperature: float
    on: str
    count: int
    before: Reliability  # at temperature 1
    after: Reliability
    isotonic: Reliability | None = None  # None: fewer than 1,000 ratings
    isotonic_knots: tuple[tuple[float, float], ...] = ()  # (score, calibrated score), what it would add
    isotonic_better: bool = False  # by its cross-fitted Brier score, beyond chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """How the model does for one group. `difference` is to the release in service, None without one.

    `small`: fewer pairs than the gate asks for, so that nothing can be told.
    """

    attribute: str  # "language", "length", "source", ...
    value: str
    accuracy: Estimate
    residual: Estimate
    difference: Estimate | None = None
    small: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """Pairs of one property, whether ranked rightly or not, and the share of them that is ranked wrongly."""

    name: str
    meaning: str
    errors: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One response of a mistake."""

    text: str
    score: float
    rating: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A pair that the model put in the wrong order, with the texts cut short. `users`: whose data it shows.

    `query` is the worse response's; `better_query` the other one's where that is another, else "".
    """

    question: str
    query: str
    better_query: str = ""
    better: Side
    worse: Side
    kind: str
    categories: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """What further seeds say. `spread` is the standard deviation of the members' scores of one response.

    `flagged`: scored high by a model whose fellows disagree, as answers are that please one model's flaws only.
    """

    accuracies: tuple[float, ...]  # of each member
    mean_accuracy: float | None  # of the mean of their logits
    spread: float
    flagged: int
    flagged_residual: float | None  # mean score - rating of the flagged
    other_residual: float | None  # ... and of what is scored as high and not flagged


class Outcome(StrEnum):
    """What the gate says; the names are those of `training_runs.verdict`."""

    BETTER = "BETTER"
    NOT_BETTER = "NOT_BETTER"
    TOO_LITTLE_DATA = "TOO_LITTLE_DATA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One demand of the gate: `passed` None means that it could not be asked, and `sentence` says why."""

    name: str
    passed: bool | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the model, and why: a plain sentence a reason. `summary` is one for the top of a page."""

    outcome: Outcome
    summary: str
    reasons: tuple[str, ...]
    clauses: tuple[Clause, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What was judged: the graph of the release, in the `precision` ("int8" or "fp32") that it would be served in; for
    "fp16", which GPUs serve, the graph in fp32.

    `trained_accuracy` is that of the model as it was trained, on the same pairs (None: there are none);
    `refused_int8_accuracy` that of an int8 graph which lost too much of it (None: there was none, or int8 of
    another form is served).
    """

    precision: str
    trained_accuracy: float | None = None
    refused_int8_accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Raters:
    """Who said what the model was trained on, in sum. Nobody is named.

    `trust` is the mean weight, 0..1, of what those said who stay; `scales` the standard deviation of their habits of
    rating high or low, which was taken off, in units of ratings. `attentive` is the share of raters that are, by how
    far they agree with others (`agreement`, Fisher's z). None: too few could be compared.
    """

    count: int = 0
    judgements: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)  # raters, by the reason why
    distrusted: int = 0  # raters that stay with a weight below a half
    trust: float | None = None
    scales: float | None = None
    attentive: float | None = None
    agreement: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What it was trained and judged on."""

    train_questions: int = 0
    train_responses: int = 0
    train_pairs: int = 0
    validation_questions: int = 0
    validation_responses: int = 0
    validation_pairs: int = 0
    validation_ratings: int = 0
    validation_users: int = 0
    clustered_by: str = "question"  # or "user": what the intervals draw anew
    kinds: Mapping[str, int] = field(default_factory=dict)  # validation pairs by kind
    exclusions: tuple[Exclusion, ...] = ()
    raters: Raters | None = None  # of the train part


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Where a report comes from; every field may be empty."""

    training_id: str = ""
    base_model: str = ""
    release: str = ""
    compared_with: str = ""
    snapshot: str = ""
    code_version: str = ""
    created_at: str = ""  # RFC 3339
    config: Mapping[str, object] = field(default_factory=dict)  # as JSON
    figures: Mapping[str, float] = field(default_factory=dict)  # of the training: "samples_per_second", ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that is known of a run's model. `points` are its curves: {"step": ..., "loss": ..., ...}."""

    version: int = VERSION
    about: About = About()
    verdict: Verdict | None = None
    served: Served | None = None
    data: Data = Data()
    confidence: float = 0.95
    ranking: Ranking
    fit: Fit
    aspects: Mapping[str, Estimate] = field(default_factory=dict)  # pairwise accuracy of each aspect's head
    aspect_errors: Mapping[str, Estimate] = field(default_factory=dict)  # mean absolute error of each
    calibration: Calibration
    baselines: tuple[Compared, ...] = ()
    groups: tuple[Group, ...] = ()
    categories: tuple[Category, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    ensemble: Ensemble | None = None
    points: tuple[Mapping[str, float], ...] = ()


class Reason(StrEnum):
    """Why people are asked to judge a response; the names are those of `review_items.reason`."""

    HIGHEST = "HIGHEST"
    LOWEST = "LOWEST"
    DISPUTED = "DISPUTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """A response for the review queue. `score` is calibrated; `spread` the ensemble's, 0 without one."""

    question: str
    place: int
    response_id: str  # "": of no log
    users: tuple[str, ...]  # who asked it
    query: str
    context: str
    response: str
    score: float
    rating: float | None
    reason: Reason
    spread: float = 0.0
