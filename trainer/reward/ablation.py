"""What each way of augmenting is worth: figures with and without it, on the same split, by several seeds. Pure.

`trials.py` trains. It changes no release: it answers whether `augment` should be switched on for these data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from trainer.errors import TrainerError
from trainer.reward.bootstrap import Floats
from trainer.reward.config import AugmentConfig, RewardConfig
from trainer.reward.evaluation import Measure
from trainer.reward.findings import Estimate

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "paraphrase": ("paraphrase_model",),
    "back-translation": ("forward_model", "backward_model"),
    "embedding noise": ("embedding_noise",),
}
"""Ways of augmenting, and the settings that switch each of them on."""
NONE: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of training. Accuracies are on validation pairs, the mean over seeds; differences are to no augmentation.

    Intervals of accuracies are over clusters (users, or questions) alone, those of differences over seeds, too.
    """

    name: str
    questions: int  # trained on, the rewritten ones among them
    accuracy: Estimate
    similar: Estimate  # on pairs of similar length
    by_seed: tuple[float, ...]  # accuracy
    difference: Estimate | None = None
    difference_similar: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """The arms, no augmentation first, with the seeds that each of them was trained by."""

    seeds: tuple[int, ...]
    pairs: int
    clustered_by: str
    arms: tuple[Arm, ...]

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Trial:
    """What one way of training gave: whether each pair is ordered rightly by each seed's model, [S, N] of 0..1."""

    right: Floats
    questions: int
    measure: Measure


def arms(config: AugmentConfig) -> dict[str, AugmentConfig]:
    """Nothing, then each way of augmenting that `config` switches on, alone. Raises TrainerError for none."""
    off = {name: AugmentConfig.model_fields[name].default for names in PARTS.values() for name in names}
    bare = config.model_copy(update=off)
    found = {NONE: bare}
    for part, names in PARTS.items():
        if any(getattr(config, name) for name in names):
            found[part] = bare.model_copy(update={name: getattr(config, name) for name in names})
    if len(found) == 1:
        raise TrainerError(
            "Nothing is switched on whose worth could be measured: set augment.paraphrase_model, augment.forward_model "
            "and augment.backward_model, or augment.embedding_noise."
        )
    return found


def compared(trained: Mapping[str, Trial], config: RewardConfig) -> Ablation:
    """The figures of what was trained."""
    bare = trained[NONE]
    return Ablation(
        seeds=tuple(config.seed + member for member in range(config.seeds)),
        pairs=bare.right.shape[1],
        clustered_by=bare.measure.columns.clustered_by,
        arms=tuple(_arm(name, one, None if name == NONE else bare) for name, one in trained.items()),
    )


def over_seeds(of_clusters: Estimate, by_seed: Sequence[float], confidence: float) -> Estimate:
    """`of_clusters` with an interval that is over seeds as well: both variances are added up.

    The degrees of freedom are Satterthwaite's (1946): those of the clusters count as many, of S seeds as S - 1. With
    one seed nothing is known of its part, and the interval stays as it is.
    """
    if len(by_seed) < 2 or of_clusters.value is None or of_clusters.low is None or of_clusters.high is None:
        return of_clusters
    from scipy import stats

    clusters_error = (of_clusters.high - of_clusters.low) / 2 / float(stats.norm.ppf((1 + confidence) / 2))
    seeds_error = float(np.std(by_seed, ddof=1)) / len(by_seed) ** 0.5
    error = float(np.hypot(clusters_error, seeds_error))
    share = (seeds_error / error) ** 4 if error else 0.0
    if not share:  # also where it is too small for a float
        return of_clusters
    freedom = (len(by_seed) - 1) / share
    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return replace(of_clusters, low=of_clusters.value - reach, high=of_clusters.value + reach)


def _arm(name: str, one: Trial, bare: Trial | None) -> Arm:
    measure, similar = one.measure, one.measure.similar()
    mean = one.right.mean(axis=0)
    return Arm(
        name=name,
        questions=one.questions,
        accuracy=measure.over_pairs(mean),
        similar=measure.over_pairs(mean, similar),
        by_seed=tuple(measure.over_pairs(each).value or 0.0 for each in one.right),
        difference=None if bare is None else _difference(measure, one.right - bare.right, None),
        difference_similar=None if bare is None else _difference(measure, one.right - bare.right, similar),
    )


def _difference(measure: Measure, gained: Floats, inside: Any) -> Estimate:
    """Of `gained` [S, N], seed by seed and pair by pair."""
    by_seed = [each.value for row in gained if (each := measure.over_pairs(row, inside)).value is not None]
    return over_seeds(measure.over_pairs(gained.mean(axis=0), inside), by_seed, measure.draws.confidence)
