"""The book of a group that is waited for: each of its tasks is told of once, whatever looks show and in which order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mpfora.client.groups.book import GroupBook
from mpfora.client.groups.ids import IdPattern, in_order
from mpfora.client.groups.progress import Pace, eta_since, fraction_of
from mpfora.client.info.task_info import LISTED_STATES

IDS = [f"t{n}" for n in range(6)]
#: of each task what a look shows: it is not there, it is there, it has finished
LOOK = st.fixed_dictionaries({task_id: st.sampled_from(["absent", "there", "finished"]) for task_id in IDS})


def shown(look: dict[str, str]) -> tuple[set[str], set[str]]:
    present = {task_id for task_id, how in look.items() if how != "absent"}
    return present, {task_id for task_id, how in look.items() if how == "finished"}


@given(st.booleans(), st.lists(LOOK, max_size=8))
@settings(max_examples=300)
def test_each_is_told_of_once(is_open: bool, looks: list[dict[str, str]]) -> None:
    book = GroupBook(None if is_open else IDS)
    told: list[str] = []
    ever: set[str] = set()
    for look in looks:
        present, finished = shown(look)
        news = book.look(present, finished)
        ever |= present
        assert set(news.finished) <= finished
        assert not set(news.gone) & present
        assert set(news.gone) <= ever
        told += news.finished + news.gone
        assert len(told) == len(set(told)), "none is told of twice"
        assert set(told).isdisjoint(book.pending)
        assert finished <= set(told), "whatever has finished is told of at once"
        assert book.is_waiting == bool(set(book.pending) & ever)
        if not is_open:
            assert set(told) | set(book.pending) == set(IDS), "none is lost"
            assert book.missing == set(IDS) - ever
        else:
            assert set(told) | set(book.pending) == ever
    present, finished = set(IDS), set(IDS)
    told += book.look(present, finished).finished
    assert sorted(told) == IDS
    assert not book.pending


@given(st.lists(LOOK, max_size=4))
def test_one_that_begins_anew_is_told_of_again(looks: list[dict[str, str]]) -> None:
    book = GroupBook(IDS)
    for look in looks:
        news = book.look(*shown(look))
        for task_id in news.finished:
            book.again(task_id)
        assert set(news.finished) <= set(book.pending)
    assert set(book.look(set(IDS), set(IDS)).finished) == set(IDS) - set(book.gone)


@given(st.lists(st.from_regex(r"[a-c]?[0-9]{0,3}[a-c]?", fullmatch=True)))
def test_ids_are_in_an_order_that_does_not_depend_on_how_they_came(ids: list[str]) -> None:
    assert in_order(ids) == in_order(reversed(ids))
    assert sorted(in_order(ids)) == sorted(ids)


@given(st.integers(0, 10**7), st.sampled_from(["t{n}", "{n:07}", "a{n:x}.b", "x{n:d}"]))
def test_a_pattern_gives_each_number_an_id_of_its_own(number: int, text: str) -> None:
    pattern = IdPattern(text)
    assert pattern.id(number) != pattern.id(number + 1)
    assert in_order([pattern.id(number + 1), pattern.id(number)])[0] in (pattern.id(number), pattern.id(number + 1))


@given(
    st.integers(0, 50),
    st.dictionaries(st.sampled_from(LISTED_STATES), st.integers(0, 60)),
    st.dictionaries(st.text(max_size=2), st.floats(-5, 5, allow_nan=False)),
)
def test_a_fraction_is_one(size: int, counts: dict[str, int], running: dict[str, float]) -> None:
    assert 0.0 <= fraction_of(size, counts, running) <= 1.0


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1)), min_size=1, max_size=20), st.floats(0, 1e6))
def test_the_rest_is_never_negative(samples: list[tuple[float, float]], began: float) -> None:
    pace = Pace()
    for now_s, fraction in sorted(samples):
        pace.at(now_s, fraction)
        for eta_s in (pace.eta_s(), eta_since(began, now_s, fraction)):
            assert eta_s is None or eta_s >= 0.0


def test_the_rest_is_told_by_the_rate() -> None:
    pace = Pace()
    assert pace.eta_s() is None
    pace.at(0.0, 0.0)
    assert pace.eta_s() is None
    pace.at(10.0, 0.25)
    assert pace.eta_s() == 30.0
    pace.at(400.0, 0.5)
    pace.at(410.0, 0.75)
    assert pace.eta_s() == 10.0, "only what was of late counts"
    pace.at(411.0, 0.5)
    assert pace.eta_s() is None, "what has begun anew is no rate"
    pace.at(420.0, 1.0)
    assert pace.eta_s() == 0.0
