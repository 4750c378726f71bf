"""How far a studentised estimate may stray by chance, at all looks together.

Asymptotic confidence sequences of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Time-uniform central limit theory
and asymptotic confidence sequences, Annals of Statistics 2024), with the boundary of Robbins' normal mixture (1970):
whoever looks at any times, as often as they like, and stops when they like, is wrong in at most `alpha` of all
experiments, in the limit of many users before the first look.
"""

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Side(Enum):
    """Which limits a sequence has. A missing one is infinite."""

    BOTH = "both"
    LOWER = "lower"
    UPPER = "upper"


@dataclass(frozen=True)
class Boundary:
    """A boundary that is tightest at `planned` effective users, and valid at any number.

    `alpha` lies between 0 and 0.5. `planned` is counted as `Estimate.effective` is: users of one arm times users of the
    other by their sum, so a quarter of all users at equal shares. It must be fixed before the data are seen.
    """

    alpha: float = 0.05
    planned: float = 1000.0
    side: Side = Side.BOTH

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5 or not 0 < self.planned < math.inf:
            raise ValueError(f"alpha must lie between 0 and 0.5, planned above 0: {self.alpha}, {self.planned}")

    @classmethod
    def of_users(cls, users: float, share: float, alpha: float = 0.05) -> "Boundary":
        """For so many users in both arms together, `share` of them (between 0 and 1) in the challenger's."""
        return cls(alpha, users * share * (1 - share))

    @property
    def spread(self) -> float:
        """The mixture's variance, in squared standard deviations of a user's outcome."""
        return _tuned(self.alpha if self.side is Side.BOTH else 2 * self.alpha) / self.planned

    def multiplier(self, effective: Floats | float) -> Floats:
        """The half width of the interval in standard errors, at so many effective users; infinite at none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            gained = self.spread * np.asarray(effective, dtype=np.float64)
            found = np.sqrt(2 * (1 + 1 / gained) * self._log_odds(1 + gained))
        return np.where(gained > 0, found, np.inf)

    def _log_odds(self, ratio: Floats) -> Floats:
        """What x²/2 must exceed. With one side the mixture is half normal: 2 Phi(x) exp(x²/2) must exceed
        sqrt(ratio) / alpha; that Phi(x) >= 1 - exp(-x²/2) / 2 makes it a closed form."""
        if self.side is Side.BOTH:
            return np.asarray(np.log(ratio) / 2 - math.log(self.alpha))
        return np.asarray(np.log(0.5 + np.sqrt(ratio) / (2 * self.alpha)))


def _tuned(alpha: float) -> float:
    """spread * effective users, at which the boundary is tightest: the x with x = log(1 + x) - 2 log(alpha)."""
    found = -2 * math.log(alpha)
    for _ in range(60):  # the slope is below 1/4: converged long before
        found = math.log1p(found) - 2 * math.log(alpha)
    return found
