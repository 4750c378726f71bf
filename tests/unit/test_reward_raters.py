"""What a report says of raters, worked out by hand."""

import pytest

from trainer.data.raters import Rater, RaterReport
from trainer.reward.findings import Raters
from trainer.reward.raters import summed


def test_raters_are_summed_up_without_a_name_and_without_those_who_are_nobody() -> None:
    report = RaterReport(
        raters=(
            Rater(id="reviewer", judgements=500, weight=1.0),
            Rater(id="ann", judgements=30, weight=1.0, offset=0.1),
            Rater(id="bob", judgements=10, weight=0.2, offset=-0.1),
            Rater(id="bot", judgements=60, weight=0.0, excluded="too_fast"),
            Rater(id="spam", judgements=5, weight=0.0, excluded="repeated"),
            Rater(id="more", judgements=5, weight=0.0, excluded="repeated"),
        ),
        attentive=0.75,
        informative=0.4,
    )
    found = summed(report)
    assert (found.count, found.judgements, found.distrusted) == (5, 110, 1)
    assert found.left_out == {"repeated": 2, "too_fast": 1}
    assert found.trust == pytest.approx((30 * 1.0 + 10 * 0.2) / 40)
    assert found.scales == pytest.approx(0.1)
    assert (found.attentive, found.agreement) == (0.75, 0.4)


def test_of_nobody_nothing_is_said() -> None:
    assert summed(RaterReport(raters=(Rater(id="file", judgements=9),))) == Raters()
