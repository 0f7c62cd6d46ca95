"""The node's options as they are typed, and as a TOML file has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mpfora.config import Settings, SettingsError
from mpfora.retry import METAFORA, Retry
from mpfora.supervisor.options import explain, make_settings, node_options, parse_retry_option


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
        ("budgets.memory=2", "--retry: budgets: 'memory' is no cause"),
        ("delay=soon", "--retry: delay: 'soon' is no duration"),
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
        ("max-tasks = true", "--max-tasks: True is none of the values that it takes"),
        ("max-tasks = [1]", "--max-tasks: [1] is none of the values that it takes"),
        ("label = 3", "--label: 3 is none of the values that it takes"),
        ("label = [3]", "--label: [3] is none of the values that it takes"),
        ('max-tasks = "x"', "--max-tasks: 'x' is not a valid integer"),
        ('stop_timeout = "soon"', "--stop-timeout: 'soon' is no duration"),
        ("version = 1", "unknown setting 'version'; there are: "),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_name(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(click.ClickException) as caught:
        settings("--config", str(file))
    assert explain(caught.value).startswith(f"--config {file}: {told}")


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
