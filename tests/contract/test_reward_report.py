"""A whole evaluation with its baselines, its report as JSON and as a page, and the review queue."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from tests.judged import a_dataset, a_model, scores
from trainer.data.records import Dataset, Exclusion, PairKind
from trainer.errors import DataError, TrainerError
from trainer.reward import baselines
from trainer.reward.config import GateConfig, RewardConfig
from trainer.reward.evaluation import LEAST_SIMILAR, evaluate, spread_out
from trainer.reward.findings import (
    LONGEST,
    SERVICE,
    TFIDF,
    About,
    Outcome,
    Raters,
    Report,
    Scored,
    Served,
)
from trainer.reward.gate import gate
from trainer.reward.report import document, forget, headline, html, parse

CONFIG = GateConfig()
EMPTY = Dataset(questions={}, labels=(), pairs=())
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}{% raw %}</style>"
VOID = {"meta", "link", "img", "br", "hr", "input"}


def a_report(questions: int = 80, noise: float = 0.6, members: int = 3) -> Report:
    train, _ = a_dataset(questions=40, seed=1)
    validation, quality = a_dataset(questions=questions, users=40)
    model = a_model(quality, noise, seed=3, scale=1.5, members=members)
    service, words = scores(a_model(quality, 2.0, seed=4)), baselines.tfidf(train, validation, 1)
    assert words is not None
    report = evaluate(
        validation,
        model,
        baselines={LONGEST: baselines.longest(validation), TFIDF: words, SERVICE: service},
        config=CONFIG,
        train=train,
        exclusions=[Exclusion(reason="bot", count=1234, detail="2 raters"), Exclusion(reason="odd_one", count=1)],
        raters=Raters(
            count=1042, judgements=9000, left_out={"too_fast": 17}, trust=0.87, attentive=0.81, agreement=0.5
        ),
        served=Served(precision="fp32", trained_accuracy=0.7654, refused_int8_accuracy=0.61),
        points=[
            {
                "step": step,
                "loss": 1 / (1 + step),
                "learning_rate": 2e-5,
                "gradient_norm": math.nan if step == 3 else 1.0,
            }
            for step in range(50)
        ],
        about=About(
            training_id="0198c0de-0000-7000-8000-000000000000",
            compared_with="reward-000001",
            config=RewardConfig().model_dump(mode="json"),
            figures={"peak_memory_bytes": 2**31, "samples_per_second": 41.25},
        ),
    )
    return replace(report, verdict=gate(report, CONFIG))


@pytest.fixture(scope="module")
def report() -> Report:
    return a_report()


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return html(report)


class Page(HTMLParser):
    """What a page holds: its elements, addresses, texts; and whether each element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_better_model_is_found_better_than_all_three_baselines(report: Report) -> None:
    assert report.verdict is not None
    assert report.verdict.outcome is Outcome.BETTER
    assert [each.name for each in report.baselines] == [LONGEST, TFIDF, SERVICE]
    assert all(each.difference.low is not None and each.difference.low > 0 for each in report.baselines)
    assert report.baselines[2].label == "reward-000001"
    assert report.baselines[2].fit is not None


def test_figures_are_those_of_plain_counting(report: Report) -> None:
    validation, quality = a_dataset(questions=80, users=40)
    model = a_model(quality, 0.6, seed=3, scale=1.5, members=3)
    right = [model[pair.chosen].logit > model[pair.rejected].logit for pair in validation.pairs]
    assert report.ranking.accuracy.value == pytest.approx(np.mean(right))
    assert report.ranking.kinds.keys() == {"direct"}
    assert report.data.validation_pairs == len(right) == report.ranking.accuracy.count
    heads = [
        model[label.question, label.response].aspects["clarity"] - label.aspects["clarity"]
        for label in validation.labels
    ]
    assert report.aspect_errors["clarity"].value == pytest.approx(np.mean(np.abs(heads)))
    assert report.aspects["clarity"].value is not None
    assert report.aspects["clarity"].value > 0.7


def test_noise_against_noise_is_not_better() -> None:
    validation, quality = a_dataset(questions=80, users=40)
    random = {place: Scored(logit=float(np.random.default_rng(index).normal())) for index, place in enumerate(quality)}
    service = scores(a_model(quality, 0.1, seed=4))
    found = evaluate(validation, random, baselines={SERVICE: service}, config=CONFIG)
    assert gate(found, CONFIG).outcome is Outcome.NOT_BETTER
    assert found.ensemble is None


@pytest.mark.parametrize("rated", [True, False])
def test_noise_and_a_model_that_collapsed_are_not_better_without_a_release_in_service(rated: bool) -> None:
    validation, quality = a_dataset(questions=80, users=40)
    judged = validation if rated else replace(validation, labels=())
    rng = np.random.default_rng(3)
    noise = {place: Scored(logit=float(rng.normal())) for place in quality}
    same = {place: Scored(logit=0.0) for place in quality}
    for model, clauses in ((noise, {"chance"}), (same, {"chance", "calibrated"})):
        verdict = gate(evaluate(judged, model, baselines={}, config=CONFIG), CONFIG)
        assert verdict.outcome is Outcome.NOT_BETTER
        assert {clause.name for clause in verdict.clauses if clause.passed is False} >= clauses


def test_the_same_input_gives_the_same_report() -> None:
    validation, quality = a_dataset(questions=30)
    model = a_model(quality, 0.6, seed=3, members=2)
    found = [evaluate(validation, model, baselines={}, config=CONFIG) for _ in range(2)]
    assert found[0] == found[1]


def test_an_ensemble_flags_high_scores_that_its_members_deny() -> None:
    validation, quality = a_dataset(questions=60)
    model = a_model(quality, 0.1, seed=3, members=3)
    fooled = set(list(quality)[:8])  # the first member likes these, the others don't
    model |= {place: Scored(logit=9.0, members=(9.0, -1.0, -1.0)) for place in fooled}
    found = evaluate(validation, model, baselines={}, config=CONFIG).ensemble
    assert found is not None
    assert found.flagged >= len(fooled)
    assert found.flagged_residual is not None
    assert found.other_residual is not None
    assert found.flagged_residual > found.other_residual


def test_an_empty_validation_part_gives_a_report_that_says_so() -> None:
    found = evaluate(
        EMPTY,
        {},
        baselines={LONGEST: {}, SERVICE: {}},
        config=CONFIG,
        exclusions=[Exclusion(reason="tie", count=3, detail="nearly equal ratings")],
    )
    found = replace(found, verdict=gate(found, CONFIG))
    assert found.verdict is not None
    assert found.verdict.outcome is Outcome.TOO_LITTLE_DATA
    assert parse(json.loads(json.dumps(document(found), allow_nan=False))) == found
    assert "There is too little data to tell anything" in html(found)
    assert "nearly equal ratings" in html(found)
    assert "unknown" not in html(found)


def test_preferences_alone_are_enough_to_rank_and_to_calibrate() -> None:
    rated, quality = a_dataset(questions=80)
    preferred = tuple(replace(pair, kind=PairKind.PREFERENCE) for pair in rated.pairs)
    found = evaluate(
        replace(rated, labels=(), pairs=preferred), a_model(quality, 0.5, seed=3), baselines={}, config=CONFIG
    )
    assert found.calibration.on == "preferences"
    assert found.ranking.kinds.keys() == {"preference"}
    assert found.fit.mse.value is None
    verdict = gate(found, CONFIG)
    passed = {clause.name for clause in verdict.clauses if clause.passed}
    assert passed == {"data", "chance", "calibrated"}, "and nothing else could be asked"
    assert verdict.outcome is Outcome.BETTER


def test_a_model_whose_training_diverged_is_an_error_in_a_sentence() -> None:
    validation, quality = a_dataset(questions=20)
    model = {place: Scored(logit=math.nan) for place in quality}
    with pytest.raises(TrainerError, match="training diverged"):
        evaluate(validation, model, baselines={}, config=CONFIG)
    with pytest.raises(DataError, match="validation responses have no finite score by the new model"):
        evaluate(validation, {}, baselines={}, config=CONFIG)


def test_the_report_comes_back_from_json_as_it_was(report: Report, page: str) -> None:
    text = json.dumps(document(report), allow_nan=False)
    assert parse(json.loads(text)) == report
    assert html(parse(json.loads(text))) == page


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found | {"version": 99},
        lambda found: found | {"surprise": 1},
        lambda found: {name: value for name, value in found.items() if name != "ranking"},
        lambda found: found | {"confidence": "0.95"},
        lambda found: found | {"verdict": found["verdict"] | {"outcome": "SPLENDID"}},
        lambda found: found | {"groups": 7},
        lambda _: {},
    ],
)
def test_what_is_no_report_is_refused_in_a_sentence(
    report: Report, spoil: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> None:
    with pytest.raises(DataError, match=r"^This .+\.$"):
        parse(spoil(document(report)))


def test_the_page_says_what_was_judged_and_how_far_raters_are_trusted(page: str, report: Report) -> None:
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "as it would be served, in fp32 (int8 had only 61.0 % of the pairs right)" in text
    assert "as it was trained, the model has 76.5 %" in text
    assert "raters who are somebody 1,042" in text
    assert "left out: too fast 17" in text
    assert "attentive, as far as agreement tells 81.0 %" in text
    assert headline(report)["trained_pairwise_accuracy"] == 0.7654


def test_the_headline_holds_numbers_only_and_leaves_out_what_is_unknown(report: Report) -> None:
    found = headline(report)
    assert found["pairwise_accuracy"] == report.ranking.accuracy.value
    assert found["difference_to_service_low"] == report.baselines[2].difference.low
    assert found["best_of_5_gain"] > found["longest_best_of_5_gain"]
    assert all(math.isfinite(value) for value in found.values())
    assert "mse" not in headline(evaluate(EMPTY, {}, baselines={}, config=CONFIG))


def test_points_are_spread_out_and_the_ends_of_epochs_stay() -> None:
    points: list[dict[str, float]] = [{"step": step, "loss": 1.0} for step in range(5000)]
    points[777] |= {"validation_loss": 0.5, "loss": math.inf}
    found = spread_out(points, 100)
    assert len(found) in (100, 101)
    assert (found[0]["step"], found[-1]["step"]) == (0, 4999)
    assert {"step": 777.0, "validation_loss": 0.5} in found
    assert spread_out([], 100) == ()


def test_few_pairs_of_similar_length_tell_nothing_of_them(report: Report) -> None:
    few = a_report(questions=6)
    assert 0 < few.ranking.similar.count < LEAST_SIMILAR <= report.ranking.similar.count
    assert report.ranking.similar.value is not None
    for estimate in (few.ranking.similar, *(each.difference_similar for each in few.baselines)):
        assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
    assert "pairwise_accuracy_similar_length" not in headline(few)
    assert "pairwise_accuracy_similar_length" in headline(report)


def test_the_page_fetches_nothing_and_runs_nothing(page: str) -> None:
    found = Page(page)
    assert found.open == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    addresses = [value for name, value in found.attributes if name in ("href", "src", "xlink:href", "srcset", "action")]
    assert addresses
    assert all(value.startswith("#") for value in addresses)
    assert not re.search(r"https?:|@import|url\((?!#)", page)


def test_every_link_of_the_page_leads_somewhere_and_no_id_is_there_twice(page: str) -> None:
    found = Page(page)
    assert {value[1:] for name, value in found.attributes if name == "href"} <= set(found.ids)
    assert {part for _, value in found.attributes for part in re.findall(r"url\(#([^)]+)\)", value)} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_drawings_take_their_colours_from_the_page_and_have_names(page: str) -> None:
    drawn = re.findall(r"<svg role=.*?</svg>", page, flags=re.DOTALL)
    assert len(drawn) == 6  # the parts of the loss were not recorded
    assert all('aria-label="' in each and "var(--" in each for each in drawn)
    assert not [
        found for each in drawn for found in re.findall(r"#[0-9a-f]{6}\b|(?:fill|stroke): (?:black|white)", each)
    ]


def test_hostile_texts_stay_texts(report: Report) -> None:
    mistake = report.mistakes[0]
    spoiled = replace(
        report,
        about=replace(report.about, base_model=HOSTILE, compared_with=HOSTILE, config={HOSTILE: HOSTILE}),
        mistakes=(replace(mistake, query=HOSTILE, better=replace(mistake.better, text=HOSTILE), better_query=HOSTILE),),
        groups=(replace(report.groups[0], value=HOSTILE, attribute=HOSTILE),),
        baselines=tuple(replace(each, label=f"$\\frac$ {HOSTILE}") for each in report.baselines),
        data=replace(report.data, exclusions=(Exclusion(reason=HOSTILE, count=1, detail=HOSTILE),)),
    )
    page = html(spoiled)
    found = Page(page)
    assert not {"script", "img"} & set(found.tags)
    assert found.open == []
    assert page.count("</style>") == 1
    assert "".join(found.texts).count("{{ 7*7 }}") >= 6


def test_a_user_who_is_erased_leaves_the_texts_and_not_the_figures(report: Report) -> None:
    user, query = report.mistakes[0].users[0], report.mistakes[0].query
    found = forget(report, [user])
    shown = json.dumps(document(found), ensure_ascii=False)
    assert user not in shown
    assert query not in shown
    assert found.ranking == report.ranking
    assert len(found.mistakes) == len(report.mistakes)
    assert forget(report, ["someone else"]) == report
