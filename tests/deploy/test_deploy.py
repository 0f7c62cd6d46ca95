"""What lies in deploy/: units, image, compose file and manifests, as far as that can be checked without running it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from places import ROOT

from mpfora.cli.web import COMMANDS as WEB
from mpfora.doctor.machine_checks import AFTER_STOP_S
from mpfora.model.units import parse_duration, parse_size
from mpfora.supervisor.__main__ import main as supervisor

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
DEPLOY = ROOT / "deploy"
#: variables that are not an option's: for the doctor and for libraries of handlers
NOT_OPTIONS = {"MPFORA_GRACE"}


def variables() -> set[str]:
    """Those that options of a node are read from."""
    return {str(param.envvar) for param in supervisor.params if param.envvar} | NOT_OPTIONS


def manifests(name: str) -> dict[str, dict[str, Any]]:
    """By their kind."""
    return {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "docker/compose.yml").read_text())
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["mpfora@n1.service", "mpfora-web.service"])
def test_systemd_takes_the_units(tmp_path: Path, name: str) -> None:
    """The program and the user of the units are not on this machine."""
    template = DEPLOY / "systemd" / name.replace("@n1", "@")
    text = re.sub(r"^Exec(Start|Reload)=\S+", r"Exec\1=/bin/true", template.read_text(), flags=re.M)
    text = re.sub(r"^(User|Group)=.*", r"\1=root", text, flags=re.M)
    (tmp_path / template.name).write_text(text)
    unit = tmp_path / name
    if not unit.exists():
        unit.symlink_to(tmp_path / template.name)
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in ended.stderr.splitlines() if name in line or template.name in line]
    assert complaints == [], ended.stderr
    assert "Unknown" not in ended.stderr


def test_the_unit_is_what_a_node_needs() -> None:
    text = (DEPLOY / "systemd/mpfora@.service").read_text()
    for line in (
        "Type=notify",
        "KillMode=mixed",
        "Delegate=yes",
        "Environment=MPFORA_NAME=%i",
        "WatchdogSec=30",
        "Restart=always",
        "RestartForceExitStatus=75",
    ):
        assert re.search(rf"^{re.escape(line)}$", text, re.M), line
    (codes,) = re.findall(r"^RestartPreventExitStatus=(.*)$", text, re.M)
    assert codes.split() == ["2", "4", "5"]  # as supervisor/__main__.py has them


def test_variables_are_those_of_options() -> None:
    env = re.findall(r"^(MPFORA_\w+)=", (DEPLOY / "systemd/node.env").read_text(), re.M)
    env += re.findall(r"\b(MPFORA_\w+)=", (DEPLOY / "docker/Dockerfile").read_text())
    env += [name for name in compose()["x-node-environment"] if name.startswith("MPFORA")]
    env += [name for name in manifests("node.yaml")["ConfigMap"]["data"] if name.startswith("MPFORA")]
    assert set(env) <= variables()
    assert len(set(env)) > 8


def test_nodes_have_the_time_that_they_need_to_stop() -> None:
    data = manifests("node.yaml")["ConfigMap"]["data"]
    grace = manifests("node.yaml")["StatefulSet"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert float(data["MPFORA_GRACE"]) == grace
    assert grace >= parse_duration(data["MPFORA_STOP_TIMEOUT"], "") + AFTER_STOP_S
    settings, node = compose()["x-node-environment"], compose()["x-node"]
    grace = parse_duration(node["stop_grace_period"], "")
    assert float(settings["MPFORA_GRACE"]) == grace
    assert grace >= parse_duration(settings["MPFORA_STOP_TIMEOUT"], "") + AFTER_STOP_S


def test_tasks_fit_into_the_memory_of_a_pod() -> None:
    data = manifests("node.yaml")["ConfigMap"]["data"]
    container = manifests("node.yaml")["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]
    limit = parse_size(container["resources"]["limits"]["memory"] + "B", "")
    assert int(data["MPFORA_MAX_TASKS"]) * parse_size(data["MPFORA_MEMORY_LIMIT"], "") + (256 << 20) <= limit


@pytest.mark.parametrize(("name", "kind"), [("node.yaml", "StatefulSet"), ("web.yaml", "Deployment")])
def test_pods_have_no_privileges_and_are_probed(name: str, kind: str) -> None:
    found = manifests(name)[kind]
    spec = found["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert container["livenessProbe"]["httpGet"]["port"] in ports
    labels = found["spec"]["template"]["metadata"]["labels"]
    assert found["spec"]["selector"]["matchLabels"].items() <= labels.items()
    service = manifests(name)["Service"]["spec"]
    assert service["selector"].items() <= labels.items()


def test_a_disruption_takes_one_node_at_a_time() -> None:
    budget = manifests("node.yaml")["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == manifests("node.yaml")["StatefulSet"]["spec"]["selector"]
    readiness = manifests("node.yaml")["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    assert readiness["httpGet"]["path"] == "/readyz"


def test_the_compose_file_is_whole() -> None:
    found = compose()
    services = found["services"]
    assert len([name for name in services if name.startswith("etcd")]) == 3
    assert len([name for name in services if name.startswith("node")]) == 2
    for name, service in services.items():
        assert service["image"]
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in found["volumes"] or (DEPLOY / "docker" / source).exists(), (name, volume)
        for other in service.get("depends_on", ()):
            assert "healthcheck" in services[other]
    members = services["etcd1"]["environment"]["ETCD_INITIAL_CLUSTER"]
    for name in ("etcd1", "etcd2", "etcd3"):
        assert f"{name}={services[name]['environment']['ETCD_INITIAL_ADVERTISE_PEER_URLS']}" in members.split(",")
    assert len({services[name]["environment"]["MPFORA_NAME"] for name in ("node1", "node2")}) == 2
    assert services["web"]["ports"] == ["127.0.0.1:8460:8460"]


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_the_page_is_started_by_options_that_there_are(where: str) -> None:
    words = compose()["services"]["web"]["command"] if where == "compose" else (
        manifests("web.yaml")["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]
    )  # fmt: skip
    assert words[:2] == ["mpfora.cli", "web"]
    (web,) = [command for command in WEB if command.name == "web"]
    assert isinstance(web, click.Command)
    options = {name for param in web.params for name in param.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_image_runs_as_nobody() -> None:
    text = (DEPLOY / "docker/Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.M)
    assert "SYS_PTRACE" not in text
    extras = set(re.search(r"/src\[([\w,]+)\]", text)[1].split(","))  # type: ignore[index]
    declared = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", declared, re.M) for extra in extras)


def test_the_guide_names_what_there_is() -> None:
    text = (DEPLOY / "README.md").read_text()
    for link in re.findall(r"\]\((\w+)\)", text):
        assert (DEPLOY / link).is_dir()
    for name in re.findall(r"`([\w@.-]+\.(?:service|yml|yaml|env))`", text):
        assert list(DEPLOY.rglob(name)) or list((ROOT / "mpfora/monitoring").rglob(name)), name
