"""The demo courses on disk: `courses/<slug>/course.toml` and `<module>/<lesson>.md` in the order of their names.

A lesson's first line is `# Its title`. Everything is checked when it is read, so that a slip in the content is named by
file instead of surfacing as a refusal of the API.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from domain.courses import (
    SUMMARY_LENGTH,
    TITLE_LENGTH,
    Category,
    CourseSketch,
    LessonSketch,
    Level,
    ModuleSketch,
    language_tag,
    normalize_tags,
    publish_problems,
)

HERE = Path(__file__).parent
_MANIFEST = "course.toml"


class BadContent(ValueError):
    """A course on disk is not complete; the message names the file."""


class Teacher(BaseModel):
    """`slug` is what courses refer to; the demo makes the e-mail address of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slug: str
    name: str

    @property
    def email(self) -> str:
        return f"{self.slug.replace('-', '.')}@lyceum.example"


class Price(BaseModel):
    """Minor units and a lower-case currency."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    amount: int
    currency: str


class Lesson(BaseModel):
    model_config = ConfigDict(frozen=True)

    title: Annotated[str, Field(min_length=1, max_length=TITLE_LENGTH)]
    body: Annotated[str, Field(min_length=1)]


class Module(BaseModel):
    model_config = ConfigDict(frozen=True)

    title: Annotated[str, Field(min_length=1, max_length=TITLE_LENGTH)]
    lessons: Sequence[Lesson]


class Course(BaseModel):
    """A course as a teacher would type it in. No price means free, no capacity unlimited seats."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slug: str
    title: Annotated[str, Field(min_length=1, max_length=TITLE_LENGTH)]
    summary: Annotated[str, Field(min_length=1, max_length=SUMMARY_LENGTH)]
    description: str
    language: str
    level: Level
    category: Category
    tags: list[str]
    teacher: str
    price: Price | None = None
    capacity: Annotated[int, Field(gt=0)] | None = None
    modules: Sequence[Module]

    @model_validator(mode="after")
    def _could_be_published(self) -> "Course":
        sketch = CourseSketch(
            published=False,
            summary=self.summary,
            description=self.description,
            category=self.category,
            price_amount=self.price.amount if self.price else None,
            price_currency=self.price.currency if self.price else None,
            modules=[
                ModuleSketch(module.title, [LessonSketch(lesson.title, bool(lesson.body)) for lesson in module.lessons])
                for module in self.modules
            ],
        )
        problems = [f"{problem.field}: {problem.message}" for problem in publish_problems(sketch)]
        if self.language != language_tag(self.language):
            problems.append(f"language: {self.language!r} is not canonical")
        if self.tags != normalize_tags(self.tags):
            problems.append("tags: lower case, single spaces, each once")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def lesson_count(self) -> int:
        return sum(len(module.lessons) for module in self.modules)

    @property
    def fields(self) -> dict[str, object]:
        """What `POST /v1/courses` takes."""
        fields = self.model_dump(mode="json", exclude={"slug", "teacher", "modules"})
        return fields | {"description": self.description.strip()}


def load_teachers(folder: Path = HERE) -> dict[str, Teacher]:
    """The teachers by slug."""
    table = tomllib.loads((folder / "teachers.toml").read_text(encoding="utf-8"))
    return {slug: Teacher(slug=slug, **fields) for slug, fields in table.items()}


def load_courses(folder: Path = HERE) -> list[Course]:
    """Every course, by slug. Raises `BadContent` for the first that is not fit to be published."""
    teachers = load_teachers(folder)
    courses = [_load(manifest.parent) for manifest in sorted((folder / "courses").glob(f"*/{_MANIFEST}"))]
    for course in courses:
        if course.teacher not in teachers:
            raise BadContent(f"{course.slug}/{_MANIFEST}: nobody in teachers.toml is called {course.teacher!r}")
    return courses


def _load(folder: Path) -> Course:
    manifest = tomllib.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    titles: dict[str, str] = manifest.pop("modules", {})
    folders = {path.name for path in folder.iterdir() if path.is_dir()}
    if folders != titles.keys():
        raise BadContent(f"{folder.name}/{_MANIFEST}: [modules] and folders differ: {sorted(folders ^ titles.keys())}")
    modules = [
        Module(title=titles[name], lessons=[_lesson(path) for path in sorted((folder / name).glob("*.md"))])
        for name in sorted(titles)
    ]
    try:
        return Course(slug=folder.name, modules=modules, **manifest)
    except ValidationError as error:
        problems = "; ".join(": ".join([*map(str, problem["loc"]), problem["msg"]]) for problem in error.errors())
        raise BadContent(f"{folder.name}/{_MANIFEST}: {problems}") from None


def _lesson(path: Path) -> Lesson:
    heading, _, body = path.read_text(encoding="utf-8").partition("\n")
    if not heading.startswith("# ") or not body.strip():
        raise BadContent(f"{path.parent.parent.name}/{path.parent.name}/{path.name}: expected `# Title`, then text")
    return Lesson(title=heading.removeprefix("# ").strip(), body=body.strip())
