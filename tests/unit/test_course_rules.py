from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.courses import (
    MAX_TAGS,
    CourseIncomplete,
    CourseSketch,
    LessonSketch,
    ModuleOrder,
    ModuleSketch,
    OrderMismatch,
    check_order,
    course_slug,
    language_tag,
    normalize_tags,
    publish_problems,
    require_publishable,
)
from domain.texts import is_one_line

COMPLETE = CourseSketch(
    published=False,
    summary="Bake.",
    description="Bread.",
    category="cooking",
    price_amount=4900,
    price_currency="usd",
    modules=[ModuleSketch("Flour", [LessonSketch("Milling", has_content=True)])],
)
COURSE_ID = UUID("01930000-0000-7000-8000-0123456789ab")


def test_a_complete_course_has_no_problems() -> None:
    assert publish_problems(COMPLETE) == []
    assert publish_problems(replace(COMPLETE, price_amount=None, price_currency=None)) == []


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"summary": " "}, "summary", "missing"),
        ({"description": "\n"}, "description", "missing"),
        ({"category": None}, "category", "missing"),
        ({"price_amount": 49}, "price.amount", "amount_not_chargeable"),
        ({"price_currency": "kwd"}, "price.currency", "currency_not_supported"),
        ({"price_currency": None}, "price.currency", "missing"),
        ({"modules": []}, "modules", "missing"),
        ({"modules": [ModuleSketch("Flour", [])]}, "modules.0.lessons", "missing"),
        (
            {"modules": [*COMPLETE.modules, ModuleSketch("Water", [LessonSketch("Wet", has_content=False)])]},
            "modules.1.lessons.0.body",
            "missing",
        ),
    ],
)
def test_each_gap_is_one_problem(change: dict[str, Any], field: str, code: str) -> None:
    course = replace(COMPLETE, **change)
    assert [(problem.field, problem.code) for problem in publish_problems(course)] == [(field, code)]
    with pytest.raises(CourseIncomplete) as refusal:
        require_publishable(course)
    assert [error.field for error in refusal.value.errors] == [field]


def test_a_module_of_a_published_course_may_wait_for_lessons_while_another_has_some() -> None:
    waiting, alone = [*COMPLETE.modules, ModuleSketch("Water", [])], [ModuleSketch("Water", [])]
    assert publish_problems(replace(COMPLETE, published=True, modules=waiting)) == []
    for course in (
        replace(COMPLETE, published=False, modules=waiting),
        replace(COMPLETE, published=True, modules=alone),
    ):
        number = len(course.modules) - 1
        assert [problem.field for problem in publish_problems(course)] == [f"modules.{number}.lessons"]


ids = st.uuids()
layouts = st.lists(st.tuples(ids, st.lists(ids, max_size=4)), max_size=4).filter(
    lambda layout: (
        len({m for m, _ in layout}) == len(layout)
        and len({lesson for _, ls in layout for lesson in ls}) == sum(len(ls) for _, ls in layout)
    )
)


@given(layouts.filter(bool), st.data())
def test_any_permutation_is_an_order(layout: list[tuple[UUID, list[UUID]]], data: st.DataObject) -> None:
    modules = data.draw(st.permutations([module for module, _ in layout]))
    lessons = [lesson for _, in_module in layout for lesson in in_module]
    order = {module: list[UUID]() for module in modules}
    for lesson in lessons:
        order[data.draw(st.sampled_from(modules))].append(lesson)
    check_order([ModuleOrder(module, in_module) for module, in_module in order.items()], modules, lessons)


@given(layouts.filter(bool), ids)
def test_anything_else_is_refused(layout: list[tuple[UUID, list[UUID]]], foreign: UUID) -> None:
    order = [ModuleOrder(module, lessons) for module, lessons in layout]
    modules = {module.id for module in order}
    lessons = {lesson for module in order for lesson in module.lessons}
    check_order(order, modules, lessons)
    first = order[0]
    for wrong, field, code in (
        ([*order, first], "modules.0.id", "duplicate"),
        ([*order, ModuleOrder(foreign, [])], f"modules.{len(order)}.id", "unknown"),
        (order[1:], "modules", "missing"),
        (
            [ModuleOrder(first.id, [*first.lessons, foreign]), *order[1:]],
            f"modules.0.lessons.{len(first.lessons)}",
            "unknown",
        ),
    ):
        with pytest.raises(OrderMismatch) as refusal:
            check_order(wrong, modules, lessons)
        assert (field, code) in [(error.field, error.code) for error in refusal.value.errors]


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Fresh Bread", "fresh-bread-456789ab"),
        ("  Où est l’été?! ", "ou-est-lete-456789ab"),
        ("日本語", "course-456789ab"),
        ("x" * 200, "x" * 80 + "-456789ab"),
    ],
)
def test_a_slug_is_readable_and_unique(title: str, slug: str) -> None:
    assert course_slug(title, COURSE_ID) == slug


@pytest.mark.parametrize(
    ("given_tag", "canonical"),
    [
        ("en", "en"),
        ("PT-br", "pt-BR"),
        ("ZH-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("sl-ROZAJ", "sl-rozaj"),
        ("de-CH-1996", "de-CH-1996"),
    ],
)
def test_a_language_tag_gets_its_canonical_case(given_tag: str, canonical: str) -> None:
    assert language_tag(given_tag) == canonical


@pytest.mark.parametrize("tag", ["", "e", "english", "en_US", "en-", "en-US-", "en US", "en\n", "ен"])
def test_what_is_no_language_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="BCP 47"):
        language_tag(tag)


@given(st.text())
def test_a_canonical_language_tag_stays(tag: str) -> None:
    try:
        canonical = language_tag(tag)
    except ValueError:
        return
    assert language_tag(canonical) == canonical


def test_tags_are_normalized() -> None:
    assert normalize_tags([" Sour  Dough ", "sour dough", "É"]) == ["sour dough", "é"]


@pytest.mark.parametrize("tags", [[""], ["a" * 41], ["a\x00b"], [str(n) for n in range(MAX_TAGS + 1)]])
def test_bad_tags_are_refused(tags: list[str]) -> None:
    with pytest.raises(ValueError, match="tag"):
        normalize_tags(tags)


@pytest.mark.parametrize("text", ["plain", "👩‍🍳 cooks", "می‌خواهم", "a b"])
def test_one_line_of_any_script_passes(text: str) -> None:
    assert is_one_line(text)


@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "a\u2028b", "a\u202eb", "\x1b[31m"])
def test_what_shows_as_something_else_does_not(text: str) -> None:
    assert not is_one_line(text)
