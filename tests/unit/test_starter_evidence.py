"""What surrounds the starter corpus's questions: the system message as serving writes it, and values to be copied."""

import random
import re

import pytest

from trainer.starter import copying, drills, evidence, orders, policies, rubric, shop, writer
from trainer.starter.evidence import Setting
from trainer.starter.query import LANGUAGES, Flaw, Language

NUMERIC = [intent for intent in shop.faq() if intent.value]


def test_the_system_message_has_the_parts_that_the_request_path_gives_in_its_order() -> None:
    setting = Setting(profile=True, note=evidence.NOTES[0])
    lines = ["[Shipping] We deliver.", "[orders] order TT-12345 | status shipped"]
    user, *rest = evidence.system(lines, setting, random.Random(4)).splitlines()
    assert re.fullmatch(r"User: \w+ = \w+(; \w+ = \w+){0,2}", user)
    assert rest == ["Evidence:", *lines, evidence.NOTES[0]]


def test_without_anything_around_there_is_no_system_message() -> None:
    assert evidence.system([], Setting(), random.Random(1)) == ""


@pytest.mark.parametrize("intent", NUMERIC, ids=lambda intent: intent.id)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_right_answer_states_the_value_of_the_evidence_and_a_wrong_one_does_not(
    intent: shop.Intent, lang: Language
) -> None:
    setting = Setting(source="new", distractors=2)
    for seed in range(3):
        rng = random.Random(seed)
        asked = policies.policy_question(rng, lang, "train", intent, setting, ask="?")
        assert asked.grounded
        assert asked.query.evidence.count("\n[") == 3
        for flaws, accuracy in ((frozenset[Flaw](), 1.0), (frozenset[Flaw]({"wrong"}), 0.0)):
            answer = writer.write(asked.query, asked.draft, asked.other, flaws, rng)
            assert rubric.judge(asked.query, answer.text).accuracy == accuracy, answer.text


def test_any_value_has_the_shape_of_the_usual_one() -> None:
    for intent in NUMERIC:
        for seed in range(50):
            value = evidence.any_value(intent.value, random.Random(seed))
            assert ("-" in value) == ("-" in intent.value)
            low, _, high = value.partition("-")
            assert int(low) > 0
            assert not high or int(low) < int(high)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_question_about_one_of_several_orders_is_answered_from_its_row(lang: Language) -> None:
    for seed in range(40):
        rng = random.Random(seed)
        raw = rng.choice(shop.tables("orders")["question"])
        asked = orders.order_question(rng, lang, "train", raw, Setting(rows=4), ask="{o}?")
        number = asked.query.text.removesuffix("?")
        rows = [line for line in asked.query.evidence.splitlines() if line.startswith("[orders]")]
        assert len({re.search(r"TT-\d{5}", row).group() for row in rows}) == 4  # type: ignore[union-attr]
        assert number == asked.query.expected.must[0]
        assert sum(number in row for row in rows) == 1


def test_a_question_that_names_no_order_is_about_the_first_row() -> None:
    seen = 0
    for seed in range(400):
        rng = random.Random(seed)
        raw = shop.tables("orders")["question"][0]
        query = orders.order_question(rng, "en", "train", raw, Setting(rows=3)).query
        if query.text == raw["unnamed"]["en"]:
            row = next(line for line in query.evidence.splitlines() if line.startswith("[orders]"))
            assert query.expected.must[0] in row
            seen += 1
    assert seen > 10


def test_questions_phrased_anew_are_never_trained_on() -> None:
    anew = shop.tables("anew")
    assert set(anew) == {one.id for one in NUMERIC} | {raw["id"] for raw in shop.tables("orders")["question"]}
    for intent, texts in anew.items():
        for lang in LANGUAGES:
            others = [*shop.tables("more")[intent][lang], shop.tables("held")[intent][lang]]
            assert texts[lang] not in others


@pytest.mark.parametrize("name", copying.CONDITIONS)
def test_each_condition_of_copying_has_the_value_in_its_evidence(name: str) -> None:
    found = list(copying.queries(name, 5, 12))
    assert {query.lang for query in found} == set(LANGUAGES)
    for query in found:
        bare = re.sub(r"(?<=\d)[.,](?=\d)", "", f"{query.expected.value or query.expected.must[1]}\n{query.evidence}")
        value, _, given = bare.partition("\n")
        assert all(digits in given for digits in re.findall(r"\d+", value)), query
        assert query.evidence.startswith("User: ") == ("user line" in name)
    assert found == list(copying.queries(name, 5, 12))


def test_drills_state_only_what_their_evidence_does_but_for_few_lies() -> None:
    rng, stated, missing = random.Random(2), 0, 0
    for _ in range(60):
        drill = drills.lookup(rng)
        assert sorted(drill.spoken[0][1].split(" | ")) == sorted(drill.system.removeprefix("Evidence:\n").split(" | "))
    for _ in range(60):
        drill = rng.choice((drills.about_orders, drills.about_policies))(rng)
        given = set(re.findall(r"\d+", re.sub(r"(?<=\d)[.,](?=\d)", "", drill.system)))
        for _, answer in drill.spoken:
            numbers = set(re.findall(r"\d+", re.sub(r"(?<=\d)[.,](?=\d)", "", answer)))
            stated, missing = stated + bool(numbers), missing + bool(numbers - given)
    assert stated > 60
    assert missing < 0.15 * stated
