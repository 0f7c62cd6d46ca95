"""Keys and JSON values: Metafora's byte for byte, ours beside them, and errors that say what would be right."""

from __future__ import annotations

import json

import pytest

from mpfora.cluster.changes import (
    Malformed,
    MemberGone,
    MemberPut,
    NodeCommandPut,
    OwnerGone,
    OwnerPut,
    ReaderPut,
    RemovalGone,
    RemovalPut,
    StateGone,
    StatePut,
    TaskCommandGone,
    TaskCommandPut,
    TaskGone,
    TaskPut,
    WantsPut,
)
from mpfora.cluster.decode import parse_change, parse_listing, parse_revision
from mpfora.config.props import parse_wants
from mpfora.model.state import Message, State, TaskError, TaskState, Verb
from mpfora.model.task import Member, Wants
from mpfora.model.units import parse_time
from mpfora.store.claim_records import (
    format_lost,
    format_owner,
    format_released,
    parse_lost_run,
    parse_owner,
    parse_released,
)
from mpfora.store.command_records import format_message, format_node_command, parse_message, parse_node_command
from mpfora.store.json_format import format_json
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Event, Revision
from mpfora.store.node_records import format_member, format_progress, parse_member, parse_progress
from mpfora.store.state_records import format_state, parse_state

NS = Layout("primes")


@pytest.mark.parametrize("name", ["primes", "/primes", "primes/", " /primes/ "])
def test_the_layout_is_metaforas(name: str) -> None:
    layout = Layout(name)
    assert layout.task("t") == "/primes/tasks/t"
    assert layout.props("t") == "/primes/tasks/t/props"
    assert layout.owner("t") == "/primes/tasks/t/owner"
    assert layout.commands("t") == "/primes/tasks/t/commands"
    assert layout.state("t") == "/primes/state/t"
    assert layout.member("n") == "/primes/nodes/n/_metafora"
    assert layout.node_command("n", "7") == "/primes/nodes/n/commands/7"
    assert layout.markers("n") == ("/primes/_metafora", "/primes/tasks/_metafora", "/primes/nodes/n/commands/_metafora")


def test_our_own_keys_stand_where_no_go_node_looks() -> None:
    assert NS.released("t") == "/primes/released/t"
    assert NS.removal("t") == "/primes/removals/t"
    assert NS.checkpoint("t") == "/primes/checkpoints/t"
    assert NS.live("n") == "/primes/live/n"
    assert NS.reader("r") == "/primes/readers/r"


def test_the_watched_range_holds_what_nodes_need_and_no_more() -> None:
    start, end = NS.watched
    inside = [NS.task("~"), NS.owner("t"), NS.state("t"), NS.member("0"), NS.reader("r"), NS.node_command("n", "1")]
    inside += [NS.released("t"), NS.removal("t")]
    outside = [NS.checkpoint("t"), NS.live("n"), "/primes/_metafora", Layout("primes2").task("t"), "/primes/tasks0"]
    assert all(start <= key < end for key in inside)
    assert not any(start <= key < end for key in outside)


@pytest.mark.parametrize("name", ["", "/", " / "])
def test_a_namespace_has_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        Layout(name)


# -- values -----------------------------------------------------------------------------------------------------------


def test_values_are_what_go_writes() -> None:
    assert format_owner("n1") == '{"node":"n1"}'
    assert format_owner("n1", "n2") == '{"node":"n1","missed":"n2"}'
    assert format_node_command("freeze") == '{"command":"freeze"}'
    assert format_node_command("stop_task", {"task": "t"}) == '{"command":"stop_task","parameters":{"task":"t"}}'
    assert format_message(Message.run()) == '{"message":"run"}'
    assert format_message(Message.sleep(1795514400.5)) == '{"message":"sleep","until":"2026-11-24T10:00:00.5Z"}'
    assert format_state(TaskState()) == '{"state":"runnable"}'
    sleeping = TaskState(State.SLEEPING, until=1795514400.0, errors=(TaskError(1795514400.0, "boom"),))
    assert format_state(sleeping) == (
        '{"state":"sleeping","until":"2026-11-24T10:00:00Z",'
        '"errors":[{"timestamp":"2026-11-24T10:00:00Z","error":"boom"}]}'
    )
    assert format_member(Member("n1", "h", 7, "2026-11-24T10:00:00Z")).startswith(
        '{"host":"h","created":"2026-11-24T10:00:00Z","node":"n1","pid":7,'
    )


def test_what_go_writes_is_read() -> None:
    assert parse_owner('{"node":"n1"}') == ("n1", None)
    assert parse_owner(b'{"node":"n1","missed":"n2","new":1}') == ("n1", "n2")
    go_member = b'{"host":"h","created":"2026-01-02T03:04:05.678901234+01:00","node":"n1"}'
    assert parse_member("n1", go_member) == Member("n1", "h", created="2026-01-02T03:04:05.678901234+01:00")
    assert parse_message('{"message":"pause","until":null,"error":{}}') == Message.pause()
    assert parse_message('{"message":"run","until":"0001-01-01T00:00:00Z"}') == Message.run()
    until = parse_message('{"message":"sleep","until":"2026-11-24T11:00:00.123456789+01:00"}').until
    assert until == pytest.approx(1795514400.123456)
    assert parse_node_command('{"command":"balance","parameters":null}') == ("balance", {})
    assert parse_state('{"state":"paused","until":null,"errors":null}') == TaskState(State.PAUSED)


def test_unknown_fields_of_a_state_are_kept() -> None:
    value = '{"state":"killed","owner":{"x":[1]},"errors":[]}'
    state = parse_state(value)
    assert state.extra == {"owner": {"x": [1]}}
    assert json.loads(format_state(state)) == {"state": "killed", "owner": {"x": [1]}}


def test_what_is_no_name_of_a_handler_or_group_is_somebody_elses() -> None:
    value = '{"state":"killed","group":["x"],"handler":"train"}'
    state = parse_state(value)
    assert (state.handler, state.group, state.extra) == ("train", "", {"group": ["x"]})
    assert json.loads(format_state(state)) == json.loads(value)


def test_an_extra_field_never_stands_in_for_ours() -> None:
    assert json.loads(format_state(TaskState(extra={"state": "killed", "attempt": 9}))) == {"state": "runnable"}


@pytest.mark.parametrize(
    ("parse", "value", "says"),
    [
        (parse_owner, "nobody", "owner is not JSON"),
        (parse_owner, "[]", "owner must be a JSON object"),
        (parse_owner, "{}", 'like {"node":"NAME"}'),
        (parse_owner, '{"node":7}', '"node" must be a string'),
        (parse_message, '{"message":"dance"}', "'dance' is unknown: use one of run, pause, kill"),
        (parse_message, '{"message":"error","error":{}}', "'error' is unknown"),
        (parse_message, '{"message":"sleep"}', "needs a time"),
        (parse_message, '{"message":"sleep","until":"tomorrow"}', "is not an RFC 3339 time"),
        (parse_message, '{"message":"sleep","until":5}', '"until" must be a string'),
        (parse_node_command, '{"command":"explode"}', "unknown: use one of freeze"),
        (parse_node_command, '{"command":"stop_task"}', '{"parameters":{"task":"ID"}}'),
        (parse_node_command, '{"command":"stop_task","parameters":{"task":3}}', '{"parameters":{"task":"ID"}}'),
        (parse_node_command, '{"command":"freeze","parameters":[]}', '"parameters" must be an object'),
        (parse_state, '{"state":"happy"}', "must be one of runnable, sleeping"),
        (parse_state, '{"state":"paused","attempt":true}', '"attempt" must be a whole number'),
        (parse_state, '{"state":"paused","errors":[1]}', "must be an object"),
        (parse_state, '{"state":"paused","errors":[{"error":"x"}]}', "needs its time"),
        (parse_state, "[" * 100_000, "state is not JSON"),
        (parse_state, b"\xff\xfe\x00", "state is not JSON"),
        (parse_state, "", "state is not JSON"),
    ],
)
def test_errors_say_what_is_wrong_and_what_is_right(parse: object, value: str | bytes, says: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011, the text is compared
        parse(value)  # type: ignore[operator]
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_a_member_record_of_the_wrong_kind_names_the_field() -> None:
    for field, value in [("capacity", '"8"'), ("weight", "true"), ("labels", '{"a":1}'), ("handlers", "[1]")]:
        with pytest.raises(ValueError, match=f'"{field}"'):
            parse_member("n1", f'{{"{field}":{value}}}')


def test_json_that_no_one_could_read_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_json({"x": float("nan")})


def test_only_commands_are_written_as_commands() -> None:
    with pytest.raises(ValueError, match="not a command"):
        format_message(Message(Verb.ERROR))
    with pytest.raises(ValueError, match="unknown"):
        format_node_command("explode")


def test_wants() -> None:
    assert parse_wants(b"") == parse_wants("null") == parse_wants("{}") == Wants()
    assert parse_wants('{"handler":"train","labels":{"gpu":"a100"}}') == Wants("train", {"gpu": "a100"})
    assert parse_wants('{"handler":7,"labels":{"gpu":1}}') == Wants()
    assert parse_wants('{"not_before":"2026-11-24T10:00:00Z"}') == Wants(not_before=parse_time("2026-11-24T10:00:00Z"))
    for no_time in ("null", "7", '"soon"', '"2026-11-24T10:00:00"'):
        assert parse_wants(f'{{"not_before":{no_time}}}') == Wants()
    assert parse_wants("[1]") == Wants()
    assert "not JSON" in (parse_wants("{").problem or "")
    assert "not JSON" in (parse_wants(b"\xff").problem or "")


def test_marks_and_progress() -> None:
    assert parse_released(format_released("n1", 42)) == ("n1", 42)
    rows = {"t": {"progress": 0.5, "note": None}}
    assert parse_progress(format_progress(rows)) == rows


# -- events -----------------------------------------------------------------------------------------------------------


def put(key: str, value: str | bytes = "", created: int = 5, revision: int = 9) -> Event:
    return Event(key, value.encode() if isinstance(value, str) else value, False, created, revision)


def gone(key: str) -> Event:
    return Event(key, b"", True, 0, 9)


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (put(NS.task("t")), TaskPut("t")),
        (put(NS.task("t"), "anything"), TaskPut("t")),
        (gone(NS.task("t")), TaskGone("t")),
        (put(NS.props("t"), '{"handler":"h"}'), WantsPut("t", Wants("h"))),
        (gone(NS.props("t")), WantsPut("t", Wants())),
        (put(NS.owner("t"), '{"node":"n"}'), OwnerPut("t", "n", 5)),
        (gone(NS.owner("t")), OwnerGone("t", False)),
        (put(NS.commands("t"), '{"message":"kill"}'), TaskCommandPut("t", Message.kill(), 9)),
        (gone(NS.commands("t")), TaskCommandGone("t")),
        (put(NS.released("t")), None),
        (put(NS.removal("t"), '{"task":3}'), RemovalPut("t", 3)),
        (gone(NS.removal("t")), RemovalGone("t")),
        (put(NS.tasks + "t/other"), None),
        (put(NS.tasks + "t/owner/x"), None),
        (put(NS.tasks + "_metafora"), None),
        (put(NS.state("t"), '{"state":"paused"}'), StatePut("t", State.PAUSED)),
        (gone(NS.state("t")), StateGone("t")),
        (put(NS.member("n"), "{}"), MemberPut(Member("n"))),
        (gone(NS.member("n")), MemberGone("n")),
        (put(NS.node_command("n", "_metafora"), "{}"), None),
        (put(NS.node_command("n", "3"), '{"command":"drain"}'), NodeCommandPut("n", "3", "drain", {}, 9)),
        (gone(NS.node_command("n", "3")), None),
        (put(NS.nodes + "n/other"), None),
        (put(NS.reader("r")), ReaderPut("r")),
        (put("/primes2/tasks/t"), None),
        (put("/primes/else/t"), None),
        (gone(NS.tasks + "bad id"), None),
        (put(NS.tasks + "bad id/owner", "{}"), None),
    ],
)
def test_what_an_event_means(event: Event, change: object) -> None:
    assert parse_change(NS, event) == change


@pytest.mark.parametrize(
    ("event", "says", "addressee"),
    [
        (put(NS.tasks + "bad id"), "use 1 to 128", {}),
        (put(NS.tasks + "owner"), "reserved word", {}),
        (put(NS.tasks), "use 1 to 128", {}),
        (put(NS.nodes + "bad name/_metafora"), "node name", {}),
        (put(NS.owner("t"), "?"), "owner is not JSON", {}),
        (put(NS.removal("t"), "{}"), "create revision", {}),
        (put(NS.state("t"), "?"), "state is not JSON", {"state_of": "t"}),
        (put(NS.commands("t"), "?"), "task command is not JSON", {"task_id": "t"}),
        (put(NS.node_command("n", "3"), "?"), "node command is not JSON", {"node": "n", "key_id": "3"}),
        (put(NS.node_command("n", "3"), '{"command":"x"}'), "unknown", {"node": "n", "key_id": "3"}),
    ],
)
def test_what_cannot_be_understood_is_reported(event: Event, says: str, addressee: dict[str, str]) -> None:
    change = parse_change(NS, event)
    assert isinstance(change, Malformed)
    assert says in change.problem
    assert change == Malformed(event.key, change.problem, 9, **addressee)


def test_a_claim_ends_clean_by_its_owner_s_word_alone() -> None:
    released = Revision(9, (gone(NS.owner("a")), put(NS.released("a")), gone(NS.owner("b"))))
    assert parse_revision(NS, released).changes == (OwnerGone("a", True), OwnerGone("b", False))
    swept = Revision(9, (gone(NS.owner("a")), gone(NS.released("a"))))
    assert parse_revision(NS, swept).changes == (OwnerGone("a", False),)
    done = Revision(9, (gone(NS.task("a")), gone(NS.owner("a")), gone(NS.owner("ab")), gone(NS.released("b"))))
    assert parse_revision(NS, done).changes == (TaskGone("a"), OwnerGone("a", False), OwnerGone("ab", False))
    formerly = Revision(9, (gone(NS.owner("a")), put(NS.released_before("a"))))
    assert parse_revision(NS, formerly).changes == (OwnerGone("a", True),)


@pytest.mark.parametrize(
    ("word", "is_clean"),
    [
        (put(NS.state("a"), '{"state":"completed"}'), True),
        (put(NS.state("a"), '{"state":"killed","kept_until":"2026-11-24T10:00:00Z"}'), True),
        (gone(NS.removal("a")), True),
        (put(NS.state("a"), '{"state":"paused"}'), False),
        (put(NS.state("a"), "?"), False),
        (gone(NS.state("a")), False),
        (put(NS.removal("a"), '{"task":3}'), False),
        (gone(NS.released("a")), False),
        (gone(NS.commands("a")), False),
        (gone(NS.props("a")), False),
        (put(NS.state("b"), '{"state":"completed"}'), False),
    ],
)
def test_what_is_the_word_of_an_owner_that_goes_with_its_task(word: Event, is_clean: bool) -> None:
    """A Go node that has finished, and a client that deletes by prefix, leave no such trace."""
    revision = Revision(9, (gone(NS.task("a")), gone(NS.owner("a")), word))
    assert OwnerGone("a", is_clean) in parse_revision(NS, revision).changes


def test_a_listing_has_tasks_first_and_commands_by_revision() -> None:
    def kv(key: str, value: str, revision: int) -> KV:
        return KV(key, value.encode(), revision, revision, 1, 0)

    kvs = [
        kv(NS.node_command("n", "1"), '{"command":"freeze"}', 30),
        kv(NS.node_command("n", "2"), '{"command":"unfreeze"}', 20),
        kv(NS.state("b"), '{"state":"paused"}', 1),
        kv(NS.task("a"), "", 12),
        kv(NS.owner("a"), '{"node":"n"}', 13),
        kv(NS.task("b"), "", 11),
        kv(NS.commands("b"), '{"message":"run"}', 25),
        kv(NS.member("n"), "{}", 14),
    ]
    changes = parse_listing(NS, 40, kvs)
    assert (changes.reset, changes.revision) == (True, 40)
    assert changes.changes == (
        MemberPut(Member("n")),
        TaskPut("b"),
        TaskPut("a"),
        StatePut("b", State.PAUSED),
        OwnerPut("a", "n", 13),
        NodeCommandPut("n", "2", "unfreeze", {}, 20),
        TaskCommandPut("b", Message.run(), 25),
        NodeCommandPut("n", "1", "freeze", {}, 30),
    )


def test_the_mark_of_a_claim_whose_owner_died_says_so() -> None:
    assert parse_lost_run(format_lost("n1", 7)) == ("n1", 7)
    assert parse_released(format_lost("n1", 7)) == ("n1", 7)
    for other in (format_released("n1", 7), "", "[]", '{"lost":true,"node":5}'):
        assert parse_lost_run(other) is None
