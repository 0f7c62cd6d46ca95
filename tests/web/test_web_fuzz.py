"""What the OpenAPI document promises, tried with whatever it allows and much that it does not (schemathesis)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from etcd_server import EtcdServer
from hypothesis import HealthCheck, Phase, settings
from node import Site, until
from web_site import with_tokens

from mpfora.client import NewTask
from mpfora.web.openapi import document
from mpfora.web.operations import OPERATIONS

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.keeps_processes("one server answers all tests of the module"),
]
#: an infinite answer is for test_web_api.py; so are questions that nodes answer, of which there are none here
_LEFT_OUT = ("/api/v1/stream",)
SCHEMA = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def ann(shared_etcd: EtcdServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Who may do all."""
    with Site(shared_etcd, "fuzz") as site:
        site.client.submit_many([NewTask(f"t{n}", {"n": n}, "train") for n in range(20)])
        folder = tmp_path_factory.mktemp("fuzz")
        with with_tokens(shared_etcd.endpoint, "fuzz", folder) as web, web.client("ann") as client:
            until(lambda: client.get("api/v1/tasks").json()["total"] == 20, "the mirror has all")
            yield client


def bounds(examples: int) -> settings:
    phases = [Phase.explicit, Phase.generate]
    return settings(max_examples=examples, deadline=None, phases=phases, suppress_health_check=list(HealthCheck))


@SCHEMA.exclude(path=list(_LEFT_OUT)).parametrize()
@bounds(8)
def test_every_answer_is_one_that_is_described(case: Any, ann: httpx.Client) -> None:
    check(case, ann)


@pytest.mark.long
@pytest.mark.timeout(3600)
@SCHEMA.exclude(path=list(_LEFT_OUT)).parametrize()
@bounds(200)
def test_so_are_those_to_very_many(case: Any, ann: httpx.Client) -> None:
    check(case, ann)


def check(case: Any, ann: httpx.Client) -> None:
    """Never a 500, never another shape; a refusal says why."""
    kwargs = case.as_transport_kwargs(base_url=str(ann.base_url).rstrip("/"))
    asked = {name.lower(): str(value) for name, value in dict(kwargs.get("headers") or {}).items()}
    headers = asked | {"authorization": ann.headers["authorization"], "content-type": "application/json"}
    body = kwargs.get("json")
    if isinstance(body, dict) and "timeout" in body:
        body["timeout"] = 1
    try:
        answer = ann.request(
            kwargs["method"], kwargs["url"], params=kwargs.get("params"), json=body,
            headers=headers, timeout=60,
        )  # fmt: skip
    except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError):
        return  # nothing can send this
    assert answer.status_code != 500, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.status_code >= 400:
        assert isinstance(answer.json()["error"], str)
        assert answer.json()["error"]
    elif answer.status_code == 200 and answer.headers["content-type"] == "application/json":
        case.operation.validate_response(schemathesis.Response.from_any(answer))


def test_each_operation_is_tried() -> None:
    operations = SCHEMA.exclude(path=list(_LEFT_OUT)).get_all_operations()
    tried = {(one.ok().method.upper(), one.ok().path) for one in operations}
    assert tried == {(one.method, one.path) for one in OPERATIONS if one.path not in _LEFT_OUT}
