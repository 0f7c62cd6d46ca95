"""The heap of those that sleep, beside a plain dict of their times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpfora.cluster.sleeping import SPARE, SleepingTasks

STEPS = st.lists(
    st.tuples(st.sampled_from(("add", "remove", "due")), st.sampled_from("abcdef"), st.integers(0, 9)), max_size=80
)


@given(STEPS)
def test_it_gives_out_what_a_plain_dict_would(steps: list[tuple[str, str, int]]) -> None:
    sleeping, plain = SleepingTasks(), dict[str, float]()
    for what, task_id, number in steps:
        if what == "add":
            sleeping.add(task_id, float(number))
            plain[task_id] = float(number)
        elif what == "remove":
            sleeping.remove(task_id)
            plain.pop(task_id, None)
        else:
            expected = sorted((at, t) for t, at in plain.items() if at <= number)[:3]
            assert sleeping.due(float(number), 3) == [t for _, t in expected]
            for _, t in expected:
                del plain[t]
        assert sleeping.next() == min(plain.values(), default=None)
        assert (len(sleeping), {t for t in "abcdef" if t in sleeping}) == (len(plain), set(plain))


def test_times_that_change_again_and_again_leave_nothing_behind() -> None:
    sleeping = SleepingTasks()
    for number in range(10_000):
        sleeping.add("t", float(10_000 - number))
        sleeping.add("u", float(number))
    assert len(sleeping._heap) <= SPARE + 2 * 2
    sleeping.remove("t")
    sleeping.remove("u")
    assert sleeping.next() is None
