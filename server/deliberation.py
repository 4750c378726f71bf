"""From the prompt to judged candidates: drawn in waves, scored while others are still being drawn, checked, and drawn
once more when none passes. What is chosen among them is not decided here."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from server import absence
from server.journey import Journey
from server.progress import CandidateDrawn, CandidateScored, Regenerating
from server.stages import candidates as drawing
from server.stages import prompt, quality, stopping
from server.stages.scoring import Reward, Scoring
from server.stages.settings import PathSettings
from server.storage.scores import ScoreCache, Subject
from server.types import Candidate, Degradation, Profile, failures
from triton_models.dialogue import transcript
from triton_models.manifest import Release

CANDIDATES_SHARE = 0.7
"""Share of the time that may be spent after which candidates that are still being drawn are given up."""
QUALITY_SHARE = 0.5
"""Share of what then remains for the checks."""
MINIMUM_REWARD = 0.6
"""For reward releases without a threshold of their own: the specification's example."""
FIRST_TEXT_SHARE = 0.9
"""The same while there is no text at all: what comes then is answered with little time to judge it."""
CHALLENGER_SHARE = 0.45
"""Where the champion would draw instead, a policy without any text is given up after this share."""
AWAY_SHARE = 0.5
"""A policy that is away is waited for until this share of the time is spent, and no longer than the settings say."""
AGAIN = 1.5
"""Others are drawn when the time left is so many times what the first ones took."""


_LANGUAGE = ("language", "languages", "locale")
"""Attributes of a profile that name languages."""
_LANGUAGE_CODES = {"english": "en", "anh": "en", "vietnamese": "vi", "việt": "vi", "viet": "vi"}


class Policy(absence.Policy, prompt.Window, Protocol):
    """A policy release that is being served."""

    release: Release

    @property
    def seeded(self) -> bool:
        """Whether seeds decide texts."""

    def window(self, max_output_tokens: int) -> tuple[int, int]:
        """Tokens for (prompt, answer)."""


@dataclass(frozen=True, slots=True)
class Judges:
    """What judges texts: `rewards` are the assigned release, then verified ones to fall back to; `priors` know the
    scores that each release gave so far; `embedding_model` names the space of the queries' embeddings; `thresholds`
    (0 to 1, by release) stand for the releases' own."""

    rewards: Sequence[Reward]
    cache: ScoreCache | None
    embedding_model: str
    rules: quality.Rules
    classifiers: quality.Classifiers
    priors: stopping.Priors
    thresholds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deliberated:
    """The judged candidates, which reward release scored them ("": none), and whether they were drawn once more.

    `reward_context` is what reward models were given beside the query; None: they were asked nothing.
    """

    candidates: tuple[Candidate, ...]
    release: str
    regenerated: bool
    minimum_reward: float
    reward_context: str | None


class Deliberation:
    """One turn's candidates. `run` once. `replaceable`: another policy draws when this one gives no text. `timed`: no
    score comes from the cache."""

    def __init__(
        self,
        way: Journey,
        fitted: prompt.Prompt,
        tokens: int,
        embedding: tuple[float, ...] | None,
        policy: Policy,
        judges: Judges,
        settings: PathSettings,
        *,
        replaceable: bool = False,
        timed: bool = False,
    ) -> None:
        self._way, self._fitted, self._tokens = way, fitted, tokens
        self._policy, self._judges, self._settings = policy, judges, settings
        self._replaceable = replaceable
        self._unscored: tuple[Degradation, ...] = ()
        material = fitted.material
        exchanges = material.recollection.exchanges
        about = quality.Material(
            way.turn.query, material.evidence, material.context, exchanges, _languages(material.profile)
        )
        self._reading = quality.Reading(about, judges.rules)
        self._scoring = Scoring(
            Subject(
                way.turn.tenant_id,
                transcript(fitted.system, ((e.query, e.response) for e in exchanges)),
                way.turn.query,
                embedding,
                judges.embedding_model,
            ),
            judges.rewards,
            deadline=way.turn.deadline,
            cache=judges.cache,
            reads=not timed,
            watch=lambda candidate: way.watch(CandidateScored(candidate)),
        )

    async def run(self) -> Deliberated:
        """Candidates that were drawn, scored and checked. Raises what `candidates.draw` raises."""
        try:
            self._reading.begin()
            began = self._way.total()
            found = await self._round(())
            regenerated = self._worth_another_round(found, self._way.total() - began)
            if regenerated:
                self._way.watch(Regenerating(failures(found)))
                found = await self._round(found)
        finally:
            await self._scoring.close()
            await self._reading.close()
        self._way.lost((*drawing.missing(found), *self._unscored))
        return Deliberated(found, self._scoring.release, regenerated, self._minimum(), self._scoring.context)

    async def _round(self, found: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """`found`, and as many more as the turn asks for: in waves, while another is worth its cost and time."""
        count, settings, way = self._way.turn.candidate_count, self._settings, self._way
        sizes = stopping.waves(count, settings.first_wave) if settings.early_stop else (count,)
        ends = way.total() + way.spendable() * CANDIDATES_SHARE
        for size in sizes:
            began = way.total()
            more = await self._draw(size, found, ends)
            found = await self._check(found, await self._score(drawing.mark_duplicates((*found, *more))))
            if not self._worth_another_wave(found, way.total() - began, ends):
                break
        return found

    async def _draw(self, count: int, found: tuple[Candidate, ...], ends: float) -> tuple[Candidate, ...]:
        """A wave of `count`, given up at `ends`, in seconds since the turn began."""
        way, settings, first = self._way, self._settings, len(found)
        wave = found[-1].wave + 1 if found else 0
        plans = drawing.plan(count, way.turn.seed, self._tokens, settings.presets, first)
        budget = max(ends - way.total(), 0.0)
        last = budget if found else max(budget, way.spendable() * FIRST_TEXT_SHARE)
        textless = way.spendable() * CHALLENGER_SHARE if self._replaceable and not found else math.inf
        # With an answer in hand others are not worth it; a challenger without any text is replaced at once.
        wanted = not any(candidate.passed for candidate in found) and (found or not self._replaceable)
        away = min(settings.policy_wait, way.spendable() * AWAY_SHARE) if wanted else 0.0
        patience = drawing.Patience(budget, settings.quorum, settings.patience, last, textless, away)
        how = (self._fitted.text, plans, self._policy, patience, self._arrived, wave, first)
        with way.stage("candidates"):
            return await drawing.draw(*how, waited=self._way.wait)

    def _arrived(self, candidate: Candidate) -> None:
        self._way.watch(CandidateDrawn(candidate))
        self._scoring.add(candidate)
        if candidate.drawn:
            self._reading.add(quality.read_of(candidate, self._judges.rules))

    async def _score(self, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        way = self._way
        with way.stage("scoring"):
            # What an earlier wave lacked, a later one may have mended.
            scored, self._unscored = await self._scoring.finish(candidates, way.spendable())
        if all(candidate.wave == 0 for candidate in scored):
            self._judges.priors.learn(self._scoring.release, _scores(scored))
        return scored

    def _worth_another_wave(self, found: Sequence[Candidate], seconds: float, ends: float) -> bool:
        """Whether one more wave is expected to gain more than it costs; with an answer in hand it must also fit."""
        prior = self._judges.priors.of(self._scoring.release)
        passed = [candidate for candidate in found if candidate.passed]
        if passed and ends - self._way.total() < AGAIN * seconds:
            return False
        best = max(_scores(passed), default=None)
        return stopping.worth_drawing(_scores(found), best, self._settings.early_stop, prior)

    def _worth_another_round(self, found: Sequence[Candidate], seconds: float) -> bool:
        """Whether none passes, and there is time to draw as many again."""
        if self._settings.regenerate == "off" or any(candidate.passed for candidate in found):
            return False
        return self._way.spendable() > AGAIN * seconds

    async def _check(self, before: tuple[Candidate, ...], scored: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """`scored` with findings; those that were checked `before`, and have the same score, keep theirs."""
        way = self._way
        known = {candidate.index for candidate, again in zip(before, scored, strict=False) if candidate == again}
        new = tuple(candidate for candidate in scored if candidate.index not in known)
        budget = way.remaining() * QUALITY_SHARE
        with way.stage("quality"):
            checked, lost = await quality.check(
                new,
                self._reading,
                self._judges.classifiers,
                self._minimum(),
                budget,
                scored=bool(self._scoring.release),
            )
        way.lost(lost)
        found = {candidate.index: candidate for candidate in checked}
        return tuple(found.get(candidate.index, candidate) for candidate in scored)

    def _minimum(self) -> float:
        """What the request asks for, else the setting, else the scoring release's own threshold."""
        given = self._way.turn.minimum_reward
        if given is None:
            given = self._settings.minimum_reward
        if given is not None:
            return given
        releases = [reward.release for reward in self._judges.rewards]
        scored_by = next((release for release in releases if release.id == self._scoring.release), releases[0])
        own = self._judges.thresholds.get(scored_by.id, scored_by.threshold)
        return own if own is not None else MINIMUM_REWARD


def _scores(candidates: Sequence[Candidate]) -> list[float]:
    return [score for candidate in candidates if (score := candidate.reward_score) is not None]


def _languages(profile: Profile | None) -> frozenset[str]:
    """The languages that the user reads, as far as the profile says so: answers may be in them."""
    said = " ".join(value for name, value in profile.attributes.items() if name in _LANGUAGE) if profile else ""
    return frozenset(_LANGUAGE_CODES.get(word, word) for word in re.findall(r"[^\W_]+", said.casefold()))
