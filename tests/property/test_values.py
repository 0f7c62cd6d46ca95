"""Any JSON value in any field that somebody reads: no node leaves, no listing fails, every good task completes, and
every node stops in time. The samples are those that once ended nodes."""

from __future__ import annotations

import json

import any_json
import planted_values
import pytest
from hostile_life import BAD, Hostile, live
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SETTINGS = ("retry", "labels", "memory_limit", "not_before", "stall_timeout", "stop_timeout", "stall_by", "handler")
RETRY = (
    "max_errors", "within", "delay", "factor", "max_delay", "jitter", "budgets", "retry_on", "fail_on",
)  # fmt: skip
STATE = (
    "state", "until", "errors", "attempt", "result", "cause", "node", "started", "ended", "stack", "kept_until",
    "suspect", "unknown",
)  # fmt: skip
RUN = ("node", "attempt", "fence", "started", "ended", "cause", "error", "cpu_s", "max_rss")
MEMBER = (
    "host", "created", "node", "pid", "capacity", "weight", "frozen", "draining", "labels", "handlers", "full",
    "balancer",
)  # fmt: skip
ROW = ("attempt", "started", "progress", "note", "cpu_s", "rss", "hold", "reason", "handler")


def _of(name: str, *fields: str) -> st.SearchStrategy[str]:
    """JSON of any kind, or an object that is nearly right."""
    return any_json.anything | any_json.objects(*fields)


states = _of("state", *STATE) | any_json.objects(*STATE).flatmap(
    lambda rest: st.sampled_from(
        ['"state":"runnable"', '"state":"sleeping","until":"9999-12-31T23:59:59-05:00"', '"state":"failed"']
    ).map(lambda head: any_json.with_first(head, rest))
)
props = (
    any_json.anything
    | any_json.objects(*SETTINGS)
    | any_json.objects(*RETRY).map(lambda policy: f'{{"retry":{policy}}}')
)
commands = any_json.anything | any_json.objects("until", "error").flatmap(
    lambda rest: st.sampled_from(["sleep", "run", "release", "checkpoint"]).map(
        lambda verb: any_json.with_first(f'"message":"{verb}"', rest)
    )
)
KEYS = {
    f"state/{BAD}": states,
    f"history/{BAD}": any_json.anything | any_json.objects(*RUN).map(lambda row: f"[{row}]"),
    f"checkpoints/{BAD}": any_json.anything,
    f"tasks/{BAD}/released": _of("released", "node", "fence", "to", "cost", "lost"),
    f"tasks/{BAD}/owner": _of("owner", "node", "missed"),
    f"tasks/{BAD}/commands": commands,
    "nodes/n9/_metafora": _of("member", *MEMBER),
    "nodes/n1/commands/7": _of("command", "command", "parameters"),
    "resources/n9": _of("usage", "tasks", "others"),
    "live/n1": any_json.anything | any_json.objects(*ROW).map(lambda row: f'{{"{BAD}":{row}}}'),
    "live/n9": any_json.anything | any_json.objects(*ROW).map(lambda row: f'{{"{BAD}":{row}}}'),
    "state/g9": states,
    "finished/000000000007/g8": any_json.anything,
}
keys = st.lists(st.sampled_from(sorted(KEYS)), max_size=3, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: KEYS[name] for name in names})
)
cases = st.builds(
    Hostile,
    props=st.just("{}") | props,
    keys=keys,
    frame=any_json.frames,
    command=st.none() | commands,
)


@pytest.mark.timeout(900)  # a minute on an idle core
@given(cases)
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
def test_no_value_ends_a_node_a_listing_or_another_task(case: Hostile) -> None:
    assert live(case) == []


def _sleep(until: str) -> Hostile:
    return Hostile(frame=f'{{"frame":"ReturnedMessage","verb":"sleep","until":{until}}}')


def _result(text: str) -> Hostile:
    return Hostile(frame=f'{{"frame":"Returned","result_json":{json.dumps(text)}}}')


_400 = "1" + "0" * 400
SAMPLES = {
    "sleep for nanoseconds": _sleep("1795857280156822639"),
    "sleep for milliseconds": _sleep("1795857280157"),
    "sleep for 400 digits": _sleep(_400),
    "delays beyond floats": Hostile('{"retry":{"delay":1e300,"max_delay":1e300}}', frame='{"frame":"x"}'),
    "a delay of 99999999 days": Hostile('{"retry":{"delay":"99999999d","max_delay":"99999999d"}}', frame="?"),
    "a factor of 400 digits": Hostile(f'{{"retry":{{"factor":{_400},"delay":0.1,"max_errors":8}}}}', frame="?"),
    "a memory limit of 400 digits": Hostile(f'{{"memory_limit":{_400}}}'),
    "a memory limit of 400 nines of TiB": Hostile(f'{{"memory_limit":"{"9" * 400}TiB"}}'),
    "a stall timeout beyond clocks": Hostile('{"stall_timeout":1e300}'),
    "a time to begin beyond years": Hostile('{"not_before":"9999-12-31T23:59:59-05:00"}'),
    "a history of 400 digits": Hostile(keys={f"history/{BAD}": f'[{{"fence":{_400},"cpu_s":{_400}}}]'}),
    "a state that holds an infinity": Hostile(keys={f"state/{BAD}": '{"state":"runnable","more":1e400}'}),
    "a state that is nested deep": Hostile(keys={f"state/{BAD}": f'{{"state":"runnable","more":{any_json.DEEP[4]}}}'}),
    "an attempt of 400 digits": Hostile(keys={f"state/{BAD}": f'{{"state":"runnable","attempt":{_400}}}'}),
    "progress of 400 digits": Hostile(
        keys={
            "live/n9": f'{{"{BAD}":{{"attempt":{_400},"started":{_400}}}}}',
            f"tasks/{BAD}/owner": '{"node":"n9"}',
            "nodes/n9/_metafora": "{}",
        }
    ),
    "a result beyond floats": _result("1e400"),
    "a result that is nested deep": _result(any_json.DEEP[4]),
    "a checkpoint that is not a text": Hostile(
        frame='{"frame":"ReturnedMessage","verb":"release","checkpoint_json":"\\"\\ud800\\""}'
    ),
    "a capacity of 400 digits": Hostile(
        keys={"nodes/n9/_metafora": f'{{"handlers":["work"],"capacity":{_400},"pid":{_400}}}'}
    ),
}  # fmt: skip


@pytest.mark.parametrize("sample", SAMPLES)
def test_what_once_ended_nodes(sample: str) -> None:
    assert live(SAMPLES[sample]) == []


#: what tells that a guard is gone
MISSED = {
    "times_of_any_size": "sleep for 400 digits",
    "times_are_written_as_they_are": "a time to begin beyond years",
    "durations_without_end": "a delay of 99999999 days",
    "sizes_without_end": "a memory limit of 400 nines of TiB",
    "factors_without_end": "a factor of 400 digits",
    "whole_numbers_without_end": "progress of 400 digits",
    "values_that_cannot_be_written_again": "a result beyond floats",
    "checkpoints_of_any_text": "a checkpoint that is not a text",
    "a_failure_at_a_task_is_its_node_s": "a result beyond floats",
}


@pytest.mark.parametrize("guard", planted_values.GUARDS)
def test_a_guard_that_is_taken_away_is_missed(guard: str) -> None:
    with planted_values.taken_away(guard):
        assert live(SAMPLES[MISSED[guard]])
