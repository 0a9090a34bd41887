"""Whatever REST is asked, by whomever, it answers as its document says, and tells nobody of another tenant."""

from collections.abc import Iterator

import pytest

from enforcement import reservations, told_lane
from tests.rest.fuzzing import World, ask, build

pytestmark = pytest.mark.django_db(transaction=True)

CHAPTERS = [
    {"Integrations", "Audit"},
    {"Gateway keys", "Tenant and members"},
    {"Limits", "Usage"},
    {"Enforcement", "Decisions", "Telemetry"},
]
MOST_IDLE = 3
"""Operations of a chapter that may have found nothing to do."""


@pytest.fixture
def world() -> Iterator[World]:
    yield build()
    while reservations._idle:
        reservations._idle.pop().close()
    told_lane.stop()


def found_in(world: World) -> str:
    return "\n\n".join(f"{label}\n{said}" for label, said in world.failures.items())


@pytest.mark.long
@pytest.mark.parametrize("tags", CHAPTERS, ids=lambda tags: "-".join(sorted(tags)))
def test_every_answer_is_as_the_document_says(world: World, tags: set[str]) -> None:
    asked = ask(world, tags=tags, times=21, number=1)
    assert not world.failures, found_in(world)
    assert world.statuses.total() >= 21 * len(asked)
    assert {200, 400, 401, 403, 404} <= set(world.statuses)


@pytest.mark.fuzz
@pytest.mark.parametrize("number", range(2, 5))
@pytest.mark.parametrize("tags", CHAPTERS, ids=lambda tags: "-".join(sorted(tags)))
def test_every_one_of_thousands_of_answers_is_as_the_document_says(world: World, tags: set[str], number: int) -> None:
    asked = ask(world, tags=tags, times=75, number=number)
    assert not world.failures, found_in(world)
    assert world.statuses.total() >= 75 * len(asked)
    assert len(asked - world.succeeded) <= MOST_IDLE, asked - world.succeeded
