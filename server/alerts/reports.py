"""What safety reports say: an alert at the first one, over once all are withdrawn. They are read from Postgres, not
from counters. Pure."""

from collections.abc import Mapping

from server.alerts.machine import Verdict
from server.alerts.rule import Reading
from server.alerts.rules import SAFETY_REPORT
from server.alerts.types import Finding


def describe(release: str, reports: Mapping[str, int]) -> Finding:
    """The finding about a policy release with so many reports of each category; of none where all were withdrawn. Says
    nothing of who reported what."""
    count = sum(reports.values())
    each = ", ".join(f"{category} {number:,}" for category, number in sorted(reports.items()))
    what = "1 safety report" if count == 1 else f"{count:,} safety reports"
    reason = f"There {'is' if count == 1 else 'are'} {what} on replies of {release} ({each})."
    if not count:
        reason = f"All safety reports on replies of {release} were withdrawn."
    verdict = Verdict.BEYOND if count else Verdict.BACK
    return Finding.of(SAFETY_REPORT, Reading(release, count, count, verdict, reason))
