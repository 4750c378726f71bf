"""The request path, one line a stage: read this first.

    turn -> context -> tools -> prompt -> candidates + scoring + quality -> selection -> delivery -> log -> reply

A stage that can't do its work degrades the reply and says so; only without any candidate, without time or without a
durable log row is there no reply. Candidates, scoring and quality overlap: `server.deliberation` is about them.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from server.blame import away, concerned, of_haste
from server.deliberation import Deliberated, Deliberation, Policy
from server.errors import (
    BackendError,
    DeadlineExceeded,
    Overloaded,
    PolicyUnavailable,
    QueryTooLong,
    RatchetError,
    told,
)
from server.journey import Journey
from server.keeping import Keeping
from server.lookups import Known, Lookups, evidence_of
from server.means import Services
from server.progress import Observer, ignore
from server.quality.language import detect
from server.rollout.registry import HASTY
from server.rollout.routed import Routed
from server.rollout.shadow import Given
from server.rollout.types import Kind
from server.stages import delivery, prompt, quality, selection
from server.stages.settings import PathSettings
from server.storage.rows import LogEntry
from server.types import (
    Citation,
    Degradation,
    DegradationReason,
    Evidence,
    Reply,
    SelectionMethod,
    ToolRun,
    Turn,
)

REFUSAL = "refusal"
"""The generation method of an answer that no candidate gave."""
INLINE_CHARACTERS = 400
"""Texts longer than this are compared with the evidence in a thread."""
_TOO_LATE = "The deadline passed before an answer existed."
_OF_THE_POLICY = (PolicyUnavailable, Overloaded, DeadlineExceeded)
"""Why a policy draws nothing at all."""


class Pipeline:
    """Answers turns. Stateless: all state is in its services."""

    def __init__(self, services: Services, settings: PathSettings) -> None:
        self._services, self._settings = services, settings
        self._lookups, self._keeping = Lookups(services, settings), Keeping(services, settings)

    async def answer(self, turn: Turn, watch: Observer = ignore) -> Reply:
        """The best of N candidates, its log row durable; the first reply when the request id was answered before.

        `watch` is told of what happens on the way. Raises RatchetError.
        """
        way = Journey(turn, watch)
        way.remaining()
        routed = self._services.routes.of(turn)
        if "candidates" in routed.overrides and not turn.count_given:
            way.turn = replace(turn, candidate_count=routed.overrides["candidates"])
        try:
            async with asyncio.timeout_at(turn.deadline):
                reply = await self._answer(way, routed)
        except asyncio.CancelledError:  # gRPC cancels a call whose caller has left, and one whose time is over
            if routed.assignments and way.is_late:
                self._failed(way, routed, DeadlineExceeded(_TOO_LATE))
            raise
        except Exception as error:
            failure = DeadlineExceeded(_TOO_LATE) if isinstance(error, TimeoutError) else error
            if routed.assignments:
                self._failed(way, routed, failure)
            if failure is error:
                raise
            raise failure from error
        reply = await self._keeping.remember(way, reply)
        return replace(reply, shown=routed.shown) if routed.shown else reply

    def _settings_for(self, routed: Routed) -> PathSettings:
        """Those in force, but for what an experiment varies."""
        if not routed.overrides:
            return self._settings
        known = {name: value for name, value in routed.overrides.items() if name in PathSettings.model_fields}
        return self._settings.model_copy(update=known)

    async def _answer(self, way: Journey, routed: Routed) -> Reply:
        way.lost(routed.lost)
        routed = await self._fitting(way, routed)
        first, known = await self._lookups.begin(way)
        if first is not None:
            return first
        runs = await self._lookups.use_tools(way, known)
        routed, fitted, judged = await self._judged(way, known, runs, routed)
        reply = await self._choose(way, fitted, runs, judged, routed)
        entry = self._entry(way, fitted.material, reply, judged, routed)
        logged = await self._keeping.record(way, entry, known.embedding)
        if routed.shadows and not logged.replayed and not way.waited:  # after Triton came back challengers load last
            self._services.shadow.offer(_given(way.turn, fitted, judged, routed), routed.shadows)
        return logged

    def _failed(self, way: Journey, routed: Routed, error: Exception) -> None:
        """Notes a turn without a reply where what was assigned may be why; other mistakes of its caller and a log that
        is away are not."""
        parts = [] if "log" in way.latencies else concerned(error, routed.assignments)
        if parts:
            reason = error.reason if isinstance(error, RatchetError) else RatchetError.reason
            self._services.routes.failed(way.turn, parts, HASTY if of_haste(way, error) else reason)

    async def _fitting(self, way: Journey, routed: Routed) -> Routed:
        """Who can read the query. Raises QueryTooLong before anything is looked up for one that no prompt can hold."""
        try:
            await self._require_fit(way.turn, routed.policy)
        except QueryTooLong as error:
            if routed.champion is None:
                raise
            await self._require_fit(way.turn, routed.champion)
            return _fallen_back(way, routed, routed.champion, error)
        return routed

    async def _require_fit(self, turn: Turn, policy: Policy) -> None:
        limit, _ = policy.window(turn.max_output_tokens)
        if len(turn.query) > limit:  # a token has a character at least, as a rule
            tokens = await asyncio.get_running_loop().run_in_executor(self._services.threads, policy.count, turn.query)
            if tokens > limit:
                raise QueryTooLong(tokens, limit)

    async def _judged(
        self, way: Journey, known: Known, runs: Sequence[ToolRun], routed: Routed
    ) -> tuple[Routed, prompt.Prompt, Deliberated]:
        """Judged candidates, the prompt that they answer, and who drew them: the champion where a challenger gave no
        text and there is time."""
        before = len(way.degradations)
        try:
            return routed, *await self._draw(way, known, runs, routed)
        except _OF_THE_POLICY as error:
            if routed.champion is None or way.spendable() <= 0:
                raise
            del way.degradations[before:]  # they were about the other's prompt and candidates
            routed = _fallen_back(way, routed, routed.champion, error)
        return routed, *await self._draw(way, known, runs, routed)

    async def _draw(
        self, way: Journey, known: Known, runs: Sequence[ToolRun], routed: Routed
    ) -> tuple[prompt.Prompt, Deliberated]:
        fitted, tokens = await self._compose(way, known, runs, routed)
        return fitted, await self._deliberate(way, known, fitted, tokens, routed)

    async def _compose(
        self, way: Journey, known: Known, runs: Sequence[ToolRun], routed: Routed
    ) -> tuple[prompt.Prompt, int]:
        turn, policy, settings = way.turn, routed.policy, self._settings_for(routed)
        limit, answer_tokens = policy.window(turn.max_output_tokens)
        material = prompt.Material(
            turn.context, known.recollection, evidence_of(runs), known.profile, settings.instructions
        )
        with way.stage("prompt"):
            try:
                fitted = await asyncio.get_running_loop().run_in_executor(
                    self._services.threads,
                    prompt.compose,
                    turn.query,
                    material,
                    policy,
                    limit,
                    settings.evidence_tokens,
                )
            except BackendError as error:  # the chat template refuses the conversation
                raise PolicyUnavailable(str(error)) from error
        way.lost(fitted.degradations)
        return fitted, answer_tokens

    async def _deliberate(
        self, way: Journey, known: Known, fitted: prompt.Prompt, tokens: int, routed: Routed
    ) -> Deliberated:
        turn, policy, judges = way.turn, routed.policy, routed.judges
        judged = await Deliberation(
            *(way, fitted, tokens, known.embedding, policy, judges, self._settings_for(routed)),
            replaceable=routed.champion is not None,
            timed=routed.timed,
        ).run()
        if judged.release != judges.rewards[0].release.id:
            way.failed.add(Kind.REWARD)
        if turn.seed_given and not policy.seeded:
            detail = (
                f"{policy.release.id} runs on a backend whose seeds are global: the same seed may draw other texts."
            )
            way.lost([Degradation(DegradationReason.SEED_NOT_HONORED, detail)])
        return judged

    async def _choose(
        self, way: Journey, fitted: prompt.Prompt, runs: tuple[ToolRun, ...], judged: Deliberated, routed: Routed
    ) -> Reply:
        turn, policy = way.turn, routed.policy
        with way.stage("selection"):
            choice = selection.select(judged.candidates, *_method(turn, self._settings_for(routed)), turn.seed)
            ask = delivery.worth_asking(judged.candidates, choice.index) and await self._keeping.may_ask(way)
            best = None if choice.index is None else judged.candidates[choice.index]
            citations = await self._cite(best.text, fitted.material.evidence) if best else ()
        return Reply(
            response_id=turn.response_id,
            response=best.text if best else self._refusal(turn.query),
            reward_score=best.reward_score if best else None,
            generation_method=best.sampling.preset.name if best else REFUSAL,
            feedback_prompt=ask,
            candidates=judged.candidates,
            choice=choice,
            policy_release=policy.release.id,
            reward_release=judged.release,
            seed=turn.seed,
            seed_honored=policy.seeded,
            created_at=datetime.now(UTC),
            latencies=dict(way.latencies),
            total_seconds=way.total(),
            degradations=tuple(way.degradations),
            tool_runs=runs,
            citations=citations,
            regenerated=judged.regenerated,
            profile_used=fitted.material.profile is not None,
        )

    def _refusal(self, query: str) -> str:
        return self._settings.refusal_vi if detect(query) == "vi" else self._settings.refusal

    def _entry(
        self, way: Journey, material: prompt.Material, reply: Reply, judged: Deliberated, routed: Routed
    ) -> LogEntry:
        settings = self._settings_for(routed)
        decided = {
            "minimum_reward": judged.minimum_reward,
            "method": settings.selection,
            "temperature": settings.selection_temperature,
            "exploration": settings.exploration,
            "ensemble_weight": settings.ensemble_weight,
            "early_stop": settings.early_stop,
            "instructions": settings.instructions,
        }
        recalled, profile, context = material.recollection, material.profile, judged.reward_context
        failed = set() if way.is_hasty else {*way.failed, *away(way, routed.assignments)}
        assignments = tuple(replace(a, failed=a.failed or a.kind in failed) for a in routed.assignments)
        return LogEntry(way.turn, recalled, profile, reply, decided, context, assignments)

    async def _cite(self, answer: str, evidence: Sequence[Evidence]) -> tuple[Citation, ...]:
        if len(answer) + sum(len(each.text) for each in evidence) <= INLINE_CHARACTERS:
            return quality.citations(answer, evidence)
        return await asyncio.get_running_loop().run_in_executor(
            self._services.threads, quality.citations, answer, evidence
        )


def _given(turn: Turn, fitted: prompt.Prompt, judged: Deliberated, routed: Routed) -> Given:
    judge = routed.judges.rewards[0]
    return Given(turn, fitted.material, judged.candidates, judged.reward_context, judge, judged.release)


def _method(turn: Turn, settings: PathSettings) -> tuple[SelectionMethod, selection.Settings]:
    """How to choose: whoever names a method gets exactly it; the others' requests also explore."""
    explore = settings.exploration if turn.selection_method is None else 0.0
    rules = selection.Settings(settings.selection_temperature, explore, settings.ensemble_weight)
    return turn.selection_method or SelectionMethod(settings.selection), rules


def _fallen_back(way: Journey, routed: Routed, champion: Policy, error: Exception) -> Routed:
    way.failed.add(Kind.POLICY)
    detail = f"{champion.release.id} drew instead of {routed.policy.release.id}: {told(error)}."
    way.lost([Degradation(DegradationReason.POLICY_FELL_BACK, detail)])
    return replace(routed, policy=champion, champion=None)
