"""What a node says that it has: from flags, the environment and a file, and counted by the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mpfora.config.node_options import make_settings, node_options
from mpfora.config.settings import Settings, SettingsError
from mpfora.linux import machine_resources
from mpfora.model.task import Member
from mpfora.store.node_records import format_member, parse_member


def settings_of(arguments: Sequence[str], **environment: str) -> Settings:
    made: list[Settings] = []

    @click.command()
    @node_options
    def command(**options: Any) -> None:
        made.append(make_settings("ns", (), options))

    result = CliRunner(env=environment).invoke(command, list(arguments), catch_exceptions=True)
    if isinstance(result.exception, SettingsError):
        raise result.exception
    if not made:
        raise click.UsageError(result.output)
    return made[0]


def test_amounts_are_given_by_flags_by_the_environment_or_by_a_table_of_the_file(tmp_path: Path) -> None:
    has = (("cpus", 1500), ("gpus", 2), ("memory", 64 << 30))
    file = tmp_path / "node.toml"
    file.write_text('[has]\ngpus = 2\ncpus = 1.5\nmemory = "64GiB"\n')
    flags = ["--has", "gpus=2", "--has", "cpus=1.5", "--has", "memory=64GiB"]
    assert settings_of(flags).has == has
    assert settings_of([], MPFORA_HAS="gpus=2 cpus=1.5,memory=64GiB").has == has
    assert settings_of(["--config", str(file)]).has == has
    assert settings_of(["--has", "gpus=0"]).has == ()
    assert settings_of([]).has == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpus", "RESOURCE=AMOUNT"),
        ("gpus=", "RESOURCE=AMOUNT"),
        ("=2", "RESOURCE=AMOUNT"),
        ("gpus=two", "gpus: 'two' is not an amount: use a whole number, 0 or more, or auto"),
        ("gpus=-1", "gpus: '-1' is not an amount"),
        ("licence=1.5", "licence: '1.5' is not an amount: use a whole number, 0 or more"),
        ("licence=auto", "the machine tells only gpus, cpus, memory"),
        ("memory=lots", "memory: 'lots' is not a size"),
        ("my gpus=1", "the name of a resource"),
    ],
)
def test_what_cannot_be_meant_names_the_resource_and_what_can(text: str, said: str) -> None:
    with pytest.raises((SettingsError, click.UsageError)) as error:
        settings_of(["--has", text])
    assert said in " ".join(str(error.value).split()).replace("│ │ ", "")
    assert "--has" in str(error.value)


def test_a_resource_is_given_once() -> None:
    with pytest.raises(SettingsError, match="'gpus' is given twice"):
        settings_of(["--has", "gpus=1", "--has", "gpus=1"])


def test_cores_can_be_pinned_only_where_they_are_counted_and_are_there() -> None:
    with pytest.raises(SettingsError, match="--has cpus=N"):
        settings_of(["--pin"])
    with pytest.raises(SettingsError, match="more cores than"):
        settings_of(["--pin", "--has", "cpus=90000"])
    assert settings_of(["--pin", "--has", "cpus=1"]).pin


def test_auto_counts_cores_and_memory() -> None:
    has = dict(settings_of(["--has", "cpus=auto", "--has", "memory=auto"]).has)
    assert has["cpus"] == 1000 * len(os.sched_getaffinity(0))
    assert has["memory"] > 1 << 20


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without GPUs, whose programs stand in the folder."""
    for name in machine_resources.VISIBLE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine_resources, "_listed", lambda folder: ["null", "nvidiactl"])
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(machine_resources, "_SMI_S", 0.3)
    return tmp_path


def smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_auto_says_why_there_are_no_gpus(machine: Path) -> None:
    found = settings_of(["--has", "gpus=auto"])
    assert found.has == ()
    assert found.has_notes == ("--has gpus=auto: there is no /dev/nvidia0: no GPUs; write a number for others",)


def test_auto_counts_what_nvidia_smi_lists_else_the_devices(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_resources, "_listed", lambda folder: ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"])
    assert settings_of(["--has", "gpus=auto"]).has == (("gpus", 2),)
    smi(machine, "echo 'GPU 0: A (UUID: GPU-1)'; echo 'GPU 1: A (UUID: GPU-2)'; echo 'GPU 2: A (UUID: GPU-3)'")
    assert machine_resources.count_gpus() == (3, "")
    smi(machine, "echo 'no driver' >&2; exit 9")
    assert machine_resources.count_gpus() == (2, "2 by /dev/nvidia*, as nvidia-smi fails: no driver")
    smi(machine, "sleep 5")
    assert machine_resources.count_gpus()[0] == 2
    assert "does not answer" in machine_resources.count_gpus()[1]


def test_a_node_has_only_the_gpus_that_its_environment_lets_it_use(machine: Path) -> None:
    visible = settings_of(["--has", "gpus=auto"], CUDA_VISIBLE_DEVICES="2,GPU-7, 5")
    assert visible.has == (("gpus", 3),)
    assert visible.gpus == ("2", "GPU-7", "5")
    none = settings_of(["--has", "gpus=auto"], CUDA_VISIBLE_DEVICES="")
    assert none.has == ()
    assert "is set to nothing" in none.has_notes[0]
    assert settings_of(["--has", "gpus=auto"], CUDA_VISIBLE_DEVICES="1,-1,2").has == (("gpus", 1),)
    with pytest.raises(SettingsError, match="lets this node use 2: 0, 1"):
        settings_of(["--has", "gpus=4"], CUDA_VISIBLE_DEVICES="0,1")


def test_a_record_tells_what_the_node_has_and_what_its_handlers_need() -> None:
    member = Member("n", has=(("cpus", 1500), ("gpus", 2)), needs={"train": (("gpus", 1),), "none": ()})
    assert parse_member("n", format_member(member)) == member
    assert '"has":{"cpus":1.5,"gpus":2}' in format_member(member)
    assert '"has"' not in format_member(Member("n"))
    with pytest.raises(ValueError, match=r"member record of n: has\.gpus"):
        parse_member("n", '{"has":{"gpus":-1}}')
    with pytest.raises(ValueError, match=r"needs\.train"):
        parse_member("n", '{"needs":{"train":3}}')
