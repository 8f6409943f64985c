"""The demo's courses on disk are complete, and a slip in them is named by file."""

from pathlib import Path

import pytest

from deploy.demo.catalogue import BadContent, load_courses

MANIFEST = """
title = "Bread"
summary = "How to bake it."
description = "Flour, water, salt, time."
language = "en"
level = "beginner"
category = "cooking"
tags = ["bread"]
teacher = "ada"
price = {{ amount = {amount}, currency = "eur" }}

[modules]
01-dough = "Dough"
"""


def write_course(
    folder: Path, lesson: str = "# Flour\n\nIt matters.\n", amount: int = 900, teacher: str = "ada"
) -> None:
    (folder / "teachers.toml").write_text(f'[{teacher}]\nname = "Ada"\n')
    module = folder / "courses" / "bread" / "01-dough"
    module.mkdir(parents=True)
    (module / "01-flour.md").write_text(lesson)
    (module.parent / "course.toml").write_text(MANIFEST.format(amount=amount))


def test_the_shipped_catalogue_is_rich_enough_to_browse() -> None:
    courses = load_courses()
    assert len(courses) >= 12
    assert len({course.category for course in courses}) >= 6
    assert len({course.language for course in courses}) >= 3
    assert len({course.title for course in courses}) == len(courses)
    assert any(course.price is None for course in courses)
    assert any(course.capacity for course in courses)


def test_every_shipped_lesson_is_worth_reading() -> None:
    for course in load_courses():
        assert 2 <= len(course.modules) <= 4, course.slug
        for module in course.modules:
            assert 2 <= len(module.lessons) <= 4, (course.slug, module.title)
            for lesson in module.lessons:
                assert 150 <= len(lesson.body.split()) <= 400, (course.slug, lesson.title)


def test_a_course_is_read_in_the_shape_the_api_takes(tmp_path: Path) -> None:
    write_course(tmp_path)
    [course] = load_courses(tmp_path)
    assert course.fields == {
        "title": "Bread",
        "summary": "How to bake it.",
        "description": "Flour, water, salt, time.",
        "language": "en",
        "level": "beginner",
        "category": "cooking",
        "tags": ["bread"],
        "price": {"amount": 900, "currency": "eur"},
        "capacity": None,
    }
    [module] = course.modules
    assert (module.title, module.lessons[0].title, module.lessons[0].body) == ("Dough", "Flour", "It matters.")


def test_a_lesson_without_heading_is_named(tmp_path: Path) -> None:
    write_course(tmp_path, lesson="It matters.\n")
    with pytest.raises(BadContent, match=r"bread/01-dough/01-flour\.md"):
        load_courses(tmp_path)


def test_a_price_stripe_would_refuse_is_named(tmp_path: Path) -> None:
    write_course(tmp_path, amount=1)
    with pytest.raises(BadContent, match=r"bread/course\.toml.*price"):
        load_courses(tmp_path)


def test_a_folder_that_is_no_module_is_named(tmp_path: Path) -> None:
    write_course(tmp_path)
    (tmp_path / "courses" / "bread" / "02-oven").mkdir()
    with pytest.raises(BadContent, match="02-oven"):
        load_courses(tmp_path)


def test_an_unknown_teacher_is_named(tmp_path: Path) -> None:
    write_course(tmp_path, teacher="grace")
    with pytest.raises(BadContent, match="'ada'"):
        load_courses(tmp_path)
