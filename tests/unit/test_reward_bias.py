"""Whether groups and kinds of mistakes are told apart, on data whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from tests.judged import a_dataset, a_model
from trainer.data.records import Dataset, Judgement, Labelled, Question, Response
from trainer.reward import bias, categories, mistakes
from trainer.reward.bootstrap import Draws
from trainer.reward.categories import Case, categorise
from trainer.reward.columns import columns
from trainer.reward.findings import Group
from trainer.reward.scales import sigmoid

DRAWS = Draws(resamples=100)


def a_case(good: str, bad: str, query: str = "When does my parcel ship?", context: str = "", **changes: object) -> Case:
    question = Question(id="q", topic="t", query=query, context=context)
    case = Case(question, Response(text=good), Response(text=bad), question, None, None, 0.5)
    return replace(case, **changes)  # type: ignore[arg-type]


def a_label(rating: float | None, **aspects: float) -> Labelled:
    return Labelled(question="q", response=0, rating=rating, aspects=aspects, weight=1.0)


def found_groups(wrong_language: str = "", minimum: int = 50, train_users: set[str] | None = None) -> dict[str, Group]:
    """The groups of a dataset on which the model is right but for the responses in one language, all reversed."""
    data, quality = a_dataset(questions=60)
    found = columns(data)
    signs = [-1 if data.questions[place[0]].groups["language"] == wrong_language else 1 for place in found.places]
    scores = np.array([quality[place] for place in found.places]) * signs
    rated = np.clip(found.ratings + 0.1 * np.array(signs)[found.rated], -9, 9)
    judged = bias.Judged(scores=scores, rated_scores=rated, service=-scores)
    groups = bias.groups(found, judged, DRAWS, minimum, train_users)
    return {f"{each.attribute}:{each.value}": each for each in groups}


def test_the_group_that_the_model_fails_is_seen() -> None:
    groups = found_groups("vi")
    vietnamese, english = groups["language:vi"], groups["language:en"]
    assert english.accuracy.value is not None
    assert vietnamese.accuracy.value is not None
    assert english.accuracy.value > 0.9
    assert vietnamese.accuracy.value < 0.1
    assert (vietnamese.residual.value, english.residual.value) == (pytest.approx(-0.1), pytest.approx(0.1))


def test_each_group_is_compared_with_the_release_in_service_on_its_own_rows() -> None:
    group = found_groups("vi")["language:vi"]
    assert group.difference is not None
    assert group.accuracy.value is not None
    assert group.difference.value == pytest.approx(2 * group.accuracy.value - 1)  # service is right where this is wrong


def test_groups_too_small_to_be_judged_are_named_as_such() -> None:
    groups = found_groups(minimum=150)
    sizes = {name: (each.accuracy.count, each.small) for name, each in groups.items() if name.startswith("source")}
    assert all(small == (count < 150) for count, small in sizes.values())
    assert {small for _, small in sizes.values()} == {True, False}


def test_users_that_are_only_in_validation_are_a_group_of_their_own() -> None:
    groups = found_groups(train_users={f"user-{number:03}" for number in range(15)})
    assert {name for name in groups if name.startswith("user")} == {"user:seen", "user:new"}
    assert not any(name.startswith("user") for name in found_groups())


def test_an_attribute_of_one_value_is_no_group_and_rare_values_go_together() -> None:
    data, quality = a_dataset(questions=60)
    questions = {
        name: replace(question, groups={"country": f"c{index % 20}", "same": "x"})
        for index, (name, question) in enumerate(data.questions.items())
    }
    found = columns(replace(data, questions=questions))
    scores = np.array([quality[place] for place in found.places])
    groups = bias.groups(found, bias.Judged(scores=scores, rated_scores=found.ratings), DRAWS, 1)
    countries = [each.value for each in groups if each.attribute == "country"]
    assert len(countries) == bias.MOST_VALUES + 1
    assert bias.REST in countries
    assert not any(each.attribute == "same" for each in groups)
    assert all(each.difference is None for each in groups)


def test_a_question_without_a_group_is_of_an_unknown_one() -> None:
    data, quality = a_dataset(questions=20)
    first = next(iter(data.questions))
    bare = replace(data, questions={**data.questions, first: replace(data.questions[first], groups={})})
    found = columns(bare)
    scores = np.array([quality[place] for place in found.places])
    groups = bias.groups(found, bias.Judged(scores=scores, rated_scores=found.ratings), DRAWS, 1)
    assert "unknown" in [each.value for each in groups if each.attribute == "language"]


def test_no_data_have_no_groups() -> None:
    found = columns(Dataset(questions={}, labels=(), pairs=()))
    nothing = np.array([])
    assert bias.groups(found, bias.Judged(scores=nothing, rated_scores=nothing), DRAWS, 1, set()) == ()


@pytest.mark.parametrize(
    ("length", "band"),
    [(0, "up to 200 characters"), (200, "up to 200 characters"), (201, "201 to 800"), (9e9, "over 2,000")],
)
def test_lengths_fall_into_bands(length: float, band: str) -> None:
    assert bias.band(length) == band


REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I’m unable to find it.",
    "Sorry, I do not know.",
    "As an AI, I have no orders.",
    "Unfortunately there is nothing.",
    "Xin lỗi, tôi không có thông tin.",
    "Tôi không thể trả lời câu hỏi này.",
    "“I cannot answer that.”",
)


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_known_in_both_languages(text: str) -> None:
    assert "worse_refuses" in categorise(a_case("It ships on Tuesday.", text))
    assert "better_refuses" in categorise(a_case(text, "It ships on Tuesday."))


@pytest.mark.parametrize(
    "text", ["I can help: it ships now.", "Sorrel tea ships now.", "You can't return it.", "Tôi sẽ gửi ngay."]
)
def test_answers_are_no_refusals(text: str) -> None:
    assert "worse_refuses" not in categorise(a_case("It ships on Tuesday.", text))


def test_length_is_a_category_from_a_quarter_on() -> None:
    assert "worse_longer" in categorise(a_case("x" * 100, "x" * 126))
    assert "worse_shorter" in categorise(a_case("x" * 126, "x" * 100))
    assert not {"worse_longer", "worse_shorter"} & {*categorise(a_case("x" * 100, "x" * 125))}


def test_numbers_without_evidence_are_seen_only_where_there_is_a_context() -> None:
    context = "Parcels cost 4.50 and take 3 days."
    assert "numbers" in categorise(a_case("It costs 4.50.", "It costs 5.50.", context=context))
    assert "numbers" not in categorise(a_case("It costs 4.50.", "It takes 3 days.", context=context))
    assert "numbers" not in categorise(a_case("It costs 4.50.", "It costs 5.50."))


def test_an_answer_in_another_language_is_seen() -> None:
    vietnamese = "Đơn hàng của bạn sẽ được giao vào thứ ba."
    decomposed = "Đơn hàng của bạn sẽ được giao vào thứ ba."
    assert "language" in categorise(a_case("It ships on Tuesday.", vietnamese))
    assert "language" in categorise(a_case("It ships on Tuesday.", decomposed))
    assert "language" in categorise(a_case(vietnamese, "It ships on Tuesday.", query="Khi nào đơn hàng được giao?"))
    assert "language" in categorise(a_case("It ships on Tuesday.", "お荷物は火曜日に発送されます。"))
    assert "language" not in categorise(a_case("It ships on Tuesday.", "It ships on Wednesday."))
    assert "language" not in categorise(a_case("It ships on Tuesday.", "42"))
    french = "Votre colis a été expédié dès mardi à l’élève désignée, très bientôt."
    assert "language" not in categorise(a_case("Mardi.", french, query="Où se trouve mon colis, déjà réglé ?"))
    assert "language" not in categorise(a_case("It ships on Tuesday.", french)), "letters alone don't tell Latin ones"


def test_what_people_said_of_the_responses_makes_categories() -> None:
    said = Response(text="x", judgements=(Judgement(rater="a", rating=0.0), Judgement(rater="b", rating=0.5)))
    assert "raters_disagree" in categorise(a_case("x", "y", better=said))
    reported = Response(text="x", judgements=(Judgement(rater="a", rating=0.0, reported=True),))
    assert {"unsafe"} <= {*categorise(a_case("x", "y", worse=reported))}
    assert "both_good" in categorise(a_case("x", "y", better_label=a_label(1.0), worse_label=a_label(0.75)))
    assert "both_bad" in categorise(a_case("x", "y", better_label=a_label(0.5), worse_label=a_label(0.0)))
    assert not categorise(a_case("x", "y", better_label=a_label(1.0), worse_label=a_label(None)))
    contrary = a_case(
        "x", "y", better_label=a_label(1.0, safety=0.5), worse_label=a_label(0.0, safety=0.75, clarity=0.0)
    )
    assert [name for name in categorise(contrary) if name.startswith("aspect")] == ["aspect_safety"]
    assert "near" in categorise(a_case("x", "y", margin=0.125))


def test_every_category_has_a_meaning_and_a_name_on_the_page() -> None:
    from trainer.reward.page import LABELS

    assert LABELS.keys() == categories.CATEGORIES.keys()


def test_the_worst_mistakes_come_first_one_a_question_and_cut_short() -> None:
    data, quality = a_dataset(questions=40)
    found = columns(data)
    scored = a_model(quality, noise=3.0, seed=2)
    scores = sigmoid(np.array([scored[place].logit for place in found.places]))
    position = {place: index for index, place in enumerate(found.places)}
    _, listed = mistakes.analyse(found, scores, DRAWS, most=10)
    assert len({each.question for each in listed}) == len(listed) == 10
    assert all(each.worse.score > each.better.score for each in listed)
    worst = max(
        data.pairs,
        key=lambda pair: (scores[position[pair.rejected]] - scores[position[pair.chosen]]) * max(pair.margin, 0.25),
    )
    assert (listed[0].question, listed[0].worse.text) == (worst.rejected[0], data.text(worst.rejected)[2])
    assert listed[0].users == data.questions[worst.rejected[0]].askers
    assert mistakes.cut("x" * 800) == "x" * 699 + "…"


def test_a_model_that_is_always_right_makes_no_mistakes() -> None:
    data, _ = a_dataset(questions=20)
    found = columns(data)
    ratings = {(one.question, one.response): one.rating for one in data.labels}
    listed, worst = mistakes.analyse(found, np.array([ratings[place] for place in found.places], dtype=float), DRAWS)
    assert worst == ()
    assert all(each.errors.value == 0 for each in listed)
