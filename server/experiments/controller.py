"""Looks at each experiment under way: stops or holds it by evidence, and keeps what was seen for people.

All that it knows it reads again: whoever leads next goes on from what is stored.
"""

import logging
from collections.abc import Sequence

from server.errors import Conflict, RatchetError, told
from server.experiments.decision import decide
from server.experiments.store import Experiments
from server.experiments.types import Experiment, Step
from server.rollout import documents
from server.rollout.comparison import Compared
from server.rollout.evidence import Comparisons, Observations, Statistics, evidence_of, safety_of
from server.rollout.looks import Looks
from server.rollout.observed import Report
from server.rollout.registry import Looked

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks."""


class Controller:
    """Call `look` every EVERY seconds, never twice at once."""

    def __init__(self, experiments: Experiments, source: Observations) -> None:
        self._experiments, self._source = experiments, source
        self._comparisons = Comparisons(source)
        self._statistics = Statistics(self._compared)
        self._seen = Looks(experiments.look)

    async def look(self) -> None:
        """One look at every experiment under way. Raises Unavailable; what goes wrong with one keeps none of the others
        waiting."""
        under_way = await self._experiments.under_way()
        names = [each.experiment_id for each in under_way]
        self._comparisons.keep(names)
        self._statistics.keep(names)
        self._seen.only(names)
        for experiment in under_way:
            try:
                await self._look_at(experiment)
            except Conflict:
                log.debug("experiment %s changed during a look", experiment.name)
            except RatchetError as error:
                log.warning("experiment %s can't be looked at: %s", experiment.name, told(error))
            except Exception:
                log.exception("experiment %s can't be looked at", experiment.name)

    async def close(self) -> None:
        """Ends what is being computed."""
        await self._statistics.close()

    async def _look_at(self, experiment: Experiment) -> None:
        reports = await self._source.reports(experiment)
        version, found = await self._statistics.of(experiment, reports)
        evidence = evidence_of(experiment, version, found, safety_of(reports))
        now = await self._experiments.now()
        decision = decide(experiment, evidence, now)
        if isinstance(decision, Step):
            await self._experiments.apply(decision)
            log.info("experiment %s is %s: %s", experiment.name, decision.experiment.state, decision.event.reason)
            return
        seen = documents.of_evidence(evidence)
        await self._seen.keep(experiment.experiment_id, Looked(experiment.version, now, decision, seen))

    async def _compared(self, experiment: Experiment, reports: Sequence[Report]) -> Compared:
        return await self._comparisons.of(experiment, reports, experiment.elapsed(await self._experiments.now()))
