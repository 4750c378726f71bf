"""What is known of raters, in sum, for the report: it names nobody. Pure."""

from collections import Counter

import numpy as np

from trainer.data.raters import RaterReport
from trainer.data.records import NOBODY
from trainer.reward.findings import Raters

DISTRUSTED = 0.5
"""Weight, below which a rater more probably rates at random."""


def summed(report: RaterReport) -> Raters:
    """Of raters who are somebody: reviewers, and raters of files, are trusted as given."""
    known = [each for each in report.raters if each.id not in NOBODY]
    staying = [each for each in known if not each.excluded]
    judgements = [each.judgements for each in staying]
    weighed = [each for each in staying if each.judgements]
    return Raters(
        count=len(known),
        judgements=sum(each.judgements for each in known),
        left_out=dict(sorted(Counter(each.excluded for each in known if each.excluded).items())),
        distrusted=sum(each.weight < DISTRUSTED for each in staying),
        trust=float(np.average([each.weight for each in staying], weights=judgements)) if weighed else None,
        scales=float(np.std([each.offset for each in staying])) if len(staying) > 1 else None,
        attentive=report.attentive,
        agreement=report.informative,
    )
