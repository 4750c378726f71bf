"""What a run leaves: a release where there may be one, and a report."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from exporters import encoder, further
from exporters.calibrating import calibrated as calibrated_release
from exporters.errors import ExportError
from exporters.staging import discard, now
from trainer.data.records import Dataset, Place
from trainer.errors import TrainerError
from trainer.reward import curves, identity, report, review
from trainer.reward.candidates import Candidate
from trainer.reward.findings import About, Calibration, Outcome, Report, Scored
from trainer.reward.job import Job, Result
from trainer.reward.loop import Trained
from trainer.reward.scales import calibrated, matched
from trainer.reward.scoring import Scorer
from triton_models import contract, manifest

CALIBRATED: Final = "calibrated"
"""In the run's directory: a release that still lacks its plan."""


def in_service(job: Job) -> Scorer | None:
    """The release in service, opened; None where there is none. Raises TrainerError when it can't be used."""
    if job.in_service is None:
        return None
    try:
        return Scorer.open(job.in_service, job.config.train.threads)
    except manifest.ReleaseError as error:
        raise TrainerError(f"The release in service can't be compared with: {error}") from error


def about(job: Job, trained: Trained) -> About:
    """Where the report comes from."""
    return About(
        training_id=job.training_id,
        base_model=job.base_name,
        compared_with=manifest.read(job.in_service).id if job.in_service else "",
        snapshot=job.snapshot,
        code_version=identity.code_version(),
        created_at=now(),
        config=job.config.model_dump(mode="json"),
        figures=_figures(trained),
    )


def points(job: Job) -> tuple[Mapping[str, float], ...]:
    """The curves of the model that would be served, as far as its training wrote them."""
    file = job.directory / f"seed-{job.config.seed}" / curves.FILE
    lines = file.read_text().split("\n")[:-1] if file.exists() else []  # what a kill tore has no end
    return tuple(json.loads(line) for line in lines)


def conclude(
    job: Job,
    trained: Trained,
    candidate: Candidate,
    validation: Dataset,
    found: Report,
    scored: Mapping[Place, Scored],
    old: Mapping[Place, float],
) -> Result:
    """Makes the candidate a release where it may become one, and gives all that is to be kept."""
    verdict = found.verdict
    assert verdict is not None
    exported = job.always or verdict.outcome is Outcome.BETTER
    passing = threshold(job, found.calibration, scored, old)
    if exported:
        _publish(job, candidate, found, passing)
        found = replace(found, about=replace(found.about, release=job.release_id))
    shutil.rmtree(candidate.path, ignore_errors=True)
    return Result(
        verdict=verdict.outcome,
        summary=verdict.summary,
        run=job.key,
        reasons=verdict.reasons,
        metrics=report.headline(found),
        figures=found.about.figures,
        release=job.release_id if exported else "",
        release_path=str(job.out) if exported else "",
        compared_with=found.about.compared_with,
        threshold=passing,
        model=str(trained.best),
        report=report.document(found),
        html=report.html(found),
        review=review.queue(validation, scored, found.calibration),
    )


def threshold(job: Job, calibration: Calibration, scored: Mapping[Place, Scored], old: Mapping[Place, float]) -> float:
    """As many validation responses pass as with the release in service; without one, the default."""
    if job.in_service is None:
        return contract.DEFAULT_THRESHOLD
    limit = manifest.read(job.in_service).threshold
    new = [calibrated(each.logit, calibration.temperature) for each in scored.values()]
    default = contract.DEFAULT_THRESHOLD
    found = matched(new, [old[place] for place in scored], default if limit is None else limit)
    return default if found is None else found


def _publish(job: Job, candidate: Candidate, found: Report, passing: float) -> None:
    assert found.verdict is not None
    metrics: dict[str, Any] = {
        **report.headline(found),
        "run": job.key,
        "trained": job.training_key or job.key,
        "verdict": str(found.verdict.outcome),
        "reasons": list(found.verdict.reasons),
    }
    discard(job.out)  # of an earlier attempt, or compared with another release
    plan = job.config.export.target == encoder.PLAN
    out = job.directory / CALIBRATED if plan else job.out
    discard(out)
    try:
        calibrated_release(
            candidate.path,
            out,
            temperature=found.calibration.temperature,
            threshold=passing,
            parent=found.about.compared_with or None,
            metrics=metrics,
        )
        if plan:  # last: it has the temperature built in
            further.with_plan(out, job.out)
            discard(out)
    except ExportError as error:
        raise TrainerError(str(error)) from error


def _figures(trained: Trained) -> dict[str, float]:
    return {
        "steps": trained.steps,
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "learning_rate": trained.learning_rate,
        "samples_per_second": trained.samples_per_second,
        "peak_memory_bytes": trained.peak_memory_bytes,
        "peak_cuda_bytes": trained.peak_cuda_bytes,
    }
