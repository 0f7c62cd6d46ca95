"""The node's options as they are typed, and as a TOML file has them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from mpfora.config import config_file
from mpfora.config.node_options import explain, make_settings, node_options, parse_retry_option
from mpfora.config.settings import Settings, SettingsError
from mpfora.retry import METAFORA, Retry

#: the settings of a node that a file may have
NAMES = (
    "max-tasks", "lease_ttl", "stop-timeout", "stall_timeout", "memory-limit", "label", "retry", "name", "weight",
    "keep-finished", "balancer", "stall-by", "moves_per_minute",
)  # fmt: skip


def settings(*arguments: str, env: dict[str, str] | None = None) -> Settings:
    """What these arguments make. Raises what is wrong with them."""
    made: list[Settings] = []

    @click.command()
    @node_options
    def command(**options: Any) -> None:
        made.append(make_settings("ns", ("m:f",), options))

    result = CliRunner().invoke(command, arguments, env=env, catch_exceptions=False, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return made[0]


# -- the retry policy ------------------------------------------------------------------------------


def test_without_the_option_the_default_policy_holds() -> None:
    assert settings().retry == Retry()


def test_fields_may_be_given_one_by_one() -> None:
    flags = ["max_errors=3", "max-delay=1h", "factor=1.5", "budgets.memory_limit=2", "fail_on=ValueError, m.No"]
    assert settings(*(part for flag in flags for part in ("--retry", flag))).retry == Retry(
        max_errors=3, max_delay="1h", factor=1.5, budgets={"memory_limit": 2}, fail_on=["ValueError", "m.No"]
    )


def test_metafora_s_rule_by_its_name() -> None:
    assert settings("--retry", "metafora").retry == METAFORA
    assert settings("--retry", "metafora", "--retry", "delay=5m").retry.delay == 300


def test_a_table_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        '[retry]\nmax-errors = 3\nwithin = "1d"\nretry_on = ["OSError", "m.No"]\nbudgets = { stalled = 1 }\n'
    )
    policy = Retry(max_errors=3, within="1d", retry_on=["OSError", "m.No"], budgets={"stalled": 1})
    assert settings("--config", str(file)).retry == policy
    assert settings("--config", str(file), "--retry", "metafora").retry == METAFORA, "flags win"


def test_the_environment() -> None:
    assert settings(env={"MPFORA_RETRY": "max_errors=3 delay=5s"}).retry == Retry(max_errors=3, delay=5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("often", "--retry: 'often': write FIELD=VALUE, or metafora"),
        ("max_error=3", "--retry: max_error: there is no such field"),
        ("max_errors=many", "--retry: max_errors: 'many': a whole number"),
        ("budgets.memory=2", "--retry: budgets: 'memory' is not a cause"),
        ("delay=soon", "--retry: delay: 'soon' is not a duration"),
        ("fail_on=5", "--retry: fail_on: '5' is neither"),
    ],
)
def test_a_bad_field_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_retry_option((text,))
    assert str(caught.value).startswith(words)


# -- the file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max-tasks = true", ", line 1: max-tasks: true is not a whole number"),
        ("max-tasks = [1]", ", line 1: max-tasks: [1] is not a whole number"),
        ("# a\nmax-tasks = 2.9", ", line 2: max-tasks: 2.9 is not a whole number"),
        ("max_tasks = 0.5", ", line 1: max_tasks: 0.5 is not a whole number: write it without quotes and point, like"),
        ('max-tasks = "x"', ", line 1: max-tasks: 'x' is not a whole number"),
        ("label = 3", ", line 1: label: 3: a text or a list of texts is needed"),
        ("label = [3]", ", line 1: label: [3]: a text or a list of texts is needed"),
        ("label = { gpu = true }", ', line 1: label: gpu = true: a label is a text: write gpu = "true"'),
        ("\n[label]\ngpu = 1", ', line 2: label: gpu = 1: a label is a text: write gpu = "1"'),
        ('stop_timeout = "soon"', ", line 1: stop_timeout: 'soon' is not a duration"),
        ("stop-timeout = true", ", line 1: stop-timeout: True is not a duration"),
        ("memory-limit = 1.5", ", line 1: memory-limit: 1.5 is not a size"),
        ('weight = "2"', ", line 1: weight: '2' is not a number"),
        ("name = 5", ', line 1: name: 5 is not a text: write name = "..."'),
        ("keep-finished = []", ", line 1: keep-finished: [] is not a duration"),
        ("version = 1", ", line 1: unknown setting 'version'; there are: "),
        ("[rerty]\nmax_errors = 3", ", line 1: unknown setting 'rerty'; there are: "),
        ("[retry]\nmax_error = 3", ", line 1: retry.max_error: there is no such field; there are max_errors"),
        ("[retry]\nmax-errors = 3.5", ", line 1: retry.max_errors: 3.5: a whole number"),
        ('[retry]\nwithin = "0s"', ", line 1: retry.within: '0s': must be over 0"),
        ('[retry]\ndelay = "2h"\nmax_delay = "1h"', ", line 1: retry: Retry(max_delay=3600 s): must be no shorter"),
        ("max-tasks = 1\nmax_tasks = 2", ", line 2: max_tasks: the setting is there twice"),
        ("a = 1\na = 2", ": not TOML: "),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_name_and_line(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(click.ClickException) as caught:
        settings("--config", str(file))
    assert explain(caught.value).startswith(f"--config {file}{told}")


def test_a_choice_that_there_is_not_is_told_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('stall-by = "luck"')
    with pytest.raises(click.ClickException) as caught:
        settings("--config", str(file))
    assert explain(caught.value).startswith(f"--config {file}: --stall-by: 'luck' is not one of")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("max-tasks = 3", "max_tasks", 3),
        ("\ufeffmax-tasks = 3", "max_tasks", 3),
        ("max-tasks = 3\r\nweight = 2\r\n", "weight", 2.0),
        ('lease-ttl = "20s"', "lease_ttl_s", 20.0),
        ("lease-ttl = 20", "lease_ttl_s", 20.0),
        ('memory-limit = "2GiB"', "memory_limit", 2 << 30),
        ("memory-limit = 4096", "memory_limit", 4096),
        ('keep-finished = "forever"', "keep_finished_s", None),
        ("keep-finished = 60", "keep_finished_s", 60.0),
        ('label = { gpu = "yes", where = "a,b=c" }', "labels", {"gpu": "yes", "where": "a,b=c"}),
        ('label = ["gpu=yes", "zone=a"]', "labels", {"gpu": "yes", "zone": "a"}),
        ('name = " n7 "', "name", "n7"),
    ],
)
def test_what_the_file_may_hold(text: str, field: str, value: object, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_bytes(text.encode())
    assert getattr(settings("--config", str(file)), field) == value


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_bytes("max-tasks = 3".encode("utf-16"))
    with pytest.raises(click.ClickException, match="must be UTF-8 text, and is UTF-16"):
        settings("--config", str(file))


values = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=4,
)


@given(values=st.dictionaries(st.sampled_from([*NAMES, "nonsense"]), values, max_size=3))
@settings_of_hypothesis(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_the_file_makes_settings_or_one_error(values: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    with mock.patch.object(config_file.tomllib, "loads", return_value=values):
        file.write_text("")
        with suppress(click.ClickException, SettingsError):
            settings("--config", str(file))


# -- the environment -------------------------------------------------------------------------------


def test_labels_in_the_environment() -> None:
    for text in ("a=b,c=d", "a=b c=d", " a=b,\n c=d\n"):
        assert settings(env={"MPFORA_LABEL": text}).labels == {"a": "b", "c": "d"}
    with pytest.raises(click.ClickException, match="write KEY=VALUE"):
        settings(env={"MPFORA_LABEL": "a=b,c"})


def test_labels_as_flags() -> None:
    assert settings("--label", "a=b", "--label", "c=d,e").labels == {"a": "b", "c": "d,e"}
    with pytest.raises(click.ClickException, match="is 'c' a second label"):
        settings("--label", "a=b,c=d")
    with pytest.raises(SettingsError, match="'a' is given twice, as 'b' and 'c'"):
        settings("--label", "a=b", "--label", "a=c")


def test_a_wrong_flag_is_told_without_the_file_that_it_wins_over(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("max-tasks = 3")
    with pytest.raises(click.ClickException) as caught:
        settings("--config", str(file), "--max-tasks", "x")
    assert explain(caught.value).startswith("Invalid value for '--max-tasks'")
    with pytest.raises(click.ClickException) as caught:
        settings("--max-task", "1")
    assert "--help" in explain(caught.value)


def test_one_text_in_the_file_stands_for_a_list_of_one(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('label = "disk=ssd"\nretry = "metafora"')
    assert (settings("--config", str(file)).labels, settings("--config", str(file)).retry) == (
        {"disk": "ssd"},
        METAFORA,
    )
