"""Settings: the defaults that are promised, the relations that must hold, and errors that name the option."""

from __future__ import annotations

import dataclasses

import pytest

from mpfora.config.settings import EtcdSettings, Settings, SettingsError


def test_the_defaults_are_those_that_are_documented() -> None:
    settings = Settings(name="n1")
    assert (settings.namespace, settings.lease_ttl_s, settings.stop_timeout_s) == ("mpfora", 15.0, 10.0)
    assert (settings.stall_timeout_s, settings.stall_by, settings.memory_limit) == (None, "beats", None)
    assert settings.max_tasks >= 1
    assert settings.claim_grace_s == 1.0


def test_the_timeline_of_the_default_lease() -> None:
    settings = Settings(name="n1")
    assert (settings.renew_every_s, settings.ask_before_s, settings.margin_s) == (3.0, 5.0, 1.0)


def test_the_timeline_of_the_shortest_lease() -> None:
    settings = Settings(name="n1", lease_ttl_s=3)
    assert (settings.renew_every_s, settings.ask_before_s, settings.margin_s) == (0.6, 1.5, 1.0)


def test_the_margin_grows_with_the_lease() -> None:
    assert Settings(name="n1", lease_ttl_s=60).margin_s == 3.0


@pytest.mark.parametrize("ttl_s", [3, 4, 7.5, 15, 60, 3600])
def test_whatever_the_lease_renewals_come_before_the_asking_and_that_before_the_killing(ttl_s: float) -> None:
    settings = Settings(name="n1", lease_ttl_s=ttl_s)
    assert 2 * settings.renew_every_s <= ttl_s - settings.ask_before_s
    assert settings.ask_before_s >= settings.margin_s + 0.5


def test_zero_tasks_means_no_limit() -> None:
    assert Settings(name="n1", max_tasks=0).capacity is None
    assert Settings(name="n1", max_tasks=3).capacity == 3


@pytest.mark.parametrize(
    ("fields", "option", "words"),
    [
        ({"name": "a/b"}, "--name", "node name 'a/b'"),
        ({"name": ""}, "--name", "1 to 128"),
        ({"name": "owner"}, "--name", "reserved"),
        ({"namespace": " / "}, "--namespace", "empty"),
        ({"namespace": "prod\n"}, "--namespace", "leave out the blanks around it"),
        ({"namespace": " prod"}, "--namespace", "leave out the blanks around it"),
        ({"namespace": "pr\x1bod"}, "--namespace", "control characters"),
        ({"lease_ttl_s": 2.9}, "--lease-ttl", "at least 3 s: it holds two renewals, then the asking to stop (1.5 s"),
        ({"max_tasks": -1}, "--max-tasks", "or more"),
        ({"stop_timeout_s": 0}, "--stop-timeout", "over 0"),
        ({"stall_timeout_s": 0.0}, "--stall-timeout", "over 0"),
        ({"stall_by": "luck"}, "--stall-by", "'beats' or 'cpu'"),
        ({"memory_limit": 0}, "--memory-limit", "over 0"),
    ],
)
def test_what_cannot_hold_is_refused_by_the_option_s_name(fields: dict[str, object], option: str, words: str) -> None:
    with pytest.raises(SettingsError) as info:
        Settings(**{"name": "n1", **fields})  # type: ignore[arg-type]
    assert info.value.option == option
    assert str(info.value).startswith(f"{option}: ")
    assert words in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["lease_ttl_s", "stop_timeout_s", "stall_timeout_s"])
def test_a_time_that_is_none_is_refused(field: str, value: float) -> None:
    with pytest.raises(SettingsError):
        Settings(name="n1", **{field: value})  # type: ignore[arg-type]


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings(name="n1").name = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        EtcdSettings().user = "other"  # type: ignore[misc]
