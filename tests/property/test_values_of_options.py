"""Any text as any option or environment variable: it makes settings that clocks hold, or one error that names the
option."""

from __future__ import annotations

import math

import any_json
import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfora.config.node_options import make_settings, node_options
from mpfora.config.settings import MOST_COUNT, MOST_TTL_S, Settings, SettingsError
from mpfora.model.units import MOST_BYTES, MOST_S

OPTIONS = (
    "--name", "--max-tasks", "--lease-ttl", "--stop-timeout", "--stall-timeout", "--stall-by", "--keep-finished",
    "--save-every", "--memory-limit", "--on-etcd-loss", "--weight", "--moves-per-minute", "--rejoin-grace", "--label",
    "--retry", "--log-level",
)  # fmt: skip
RETRY = ("max_errors", "within", "delay", "factor", "max_delay", "jitter", "budgets.raised", "retry_on", "fail_on")
texts = st.sampled_from(
    [*any_json.NUMBERS, *any_json.TEXTS, "3000000d", "100000d", "36526d", "1e18", "9" * 6_000 + "s"]
)
given_texts = st.tuples(st.sampled_from(OPTIONS), texts) | st.tuples(
    st.just("--retry"), st.tuples(st.sampled_from(RETRY), texts).map("=".join)
)


def made(option: str, text: str, by_environment: bool) -> Settings:
    found: list[Settings] = []

    @click.command()
    @node_options
    def command(**options: object) -> None:
        found.append(make_settings("ns", ("m:f",), options))

    arguments, environment = [f"{option}={text}"], {}
    if by_environment:
        arguments, environment = [], {"MPFORA_" + option[2:].upper().replace("-", "_"): text}
    result = CliRunner().invoke(command, arguments, env=environment, catch_exceptions=False, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return found[0]


@given(given_texts, st.booleans())
@settings(deadline=None, max_examples=300)
def test_any_text_makes_settings_that_hold_or_an_error_with_the_option(given: tuple[str, str], by_env: bool) -> None:
    option, text = given
    if by_env and ("\0" in text or "\ud800" in text):
        return  # no environment holds these
    try:
        found = made(option, text, by_env)
    except (click.ClickException, SettingsError) as error:
        told = error.format_message() if isinstance(error, click.ClickException) else str(error)
        assert option in told
        assert len(told) < 20_000
        return
    for seconds in (found.stop_timeout_s, found.stall_timeout_s, found.keep_finished_s, found.save_every_s):
        assert seconds is None or 0 <= seconds <= MOST_S
    assert 3 <= found.lease_ttl_s <= MOST_TTL_S
    assert 0 <= found.max_tasks <= MOST_COUNT
    assert 1 <= found.moves_per_minute <= MOST_COUNT
    assert found.memory_limit is None or found.memory_limit <= MOST_BYTES
    assert found.weight is None or math.isfinite(found.weight)


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        ("--keep-finished", "3000000d", "'3000000d' is too long: a duration is at most 36525d (100 years), or forever"),
        ("--lease-ttl", "100000d", "'100000d' is too long: a duration is at most 36525d (100 years)"),
        ("--lease-ttl", "2d", "172800 s: at most 24h: so long a dead machine keeps its tasks"),
        ("--stop-timeout", "1" * 400, "is too long: a duration is at most 36525d (100 years)"),
        ("--memory-limit", "9" * 400 + "TiB", "is too large: a size is at most 1048576TiB"),
        ("--max-tasks", "1" * 400, "and at most 1000000"),
        ("--retry", "factor=" + "9" * 400, "a number from 1 to 1,000,000"),
        ("--retry", "delay=99999999d", "is too long"),
    ],
)
def test_what_no_clock_holds_is_refused_by_the_option_s_name(option: str, text: str, told: str) -> None:
    with pytest.raises((click.ClickException, SettingsError)) as info:
        made(option, text, False)
    error = info.value
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    assert option in message
    assert told in message
