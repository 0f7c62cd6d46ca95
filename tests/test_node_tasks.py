"""How tasks are run on real nodes: by the settings in their props, by their kinds of errors."""

from __future__ import annotations

import time

from etcd_server import EtcdServer
from node import Site
from processes import no_processes_left  # noqa: F401

from mpfora.units import format_time


def test_settings_in_props_on_a_real_node(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("zoo:sleep", "node_handlers:fail", "zoo:result", max_tasks=0)
        tomorrow = time.time() + 86_400
        site.submit("bad", "zoo:result", stop_timeout="soon", retry={"max_errors": 1})
        site.submit("later", "zoo:result", not_before=format_time(tomorrow))
        site.submit("final", "node_handlers:fail", retry={"fail_on": ["LookupError", "ArithmeticError", "ValueError"]})
        site.submit("hung", "zoo:sleep", stall_timeout="300ms", retry={"budgets": {"stalled": 1}})

        bad = site.wait_state("bad", lambda state: state.errors)
        assert bad.errors[0].text.startswith("props.stop_timeout: 'soon' is no duration")
        assert bad.cause == "start_failed"
        assert site.wait_state("later", "sleeping").until == round(tomorrow, 6)
        assert "is in fail_on" in site.wait_end("final").errors[-1].text
        assert "1 stalled errors" in site.wait_end("hung").errors[-1].text
        node.wait_idle()
        assert node.stop() == 0


def test_a_task_that_kills_its_zygote_again_and_again_fails_and_the_others_go_on(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("zoo:sleep", "zoo:kill_parent", max_tasks=0)
        site.submit("innocent", "zoo:sleep", seconds=3600)
        node.child("innocent")
        site.submit("poison", "zoo:kill_parent", signal=9)
        state = site.wait_end("poison", limit_s=90)
        assert (state.state, state.cause) == ("failed", "zygote_lost")
        assert [error.text.partition(",")[0] for error in state.errors[:-1]] == ["it took down the zygote of n1"] * 3
        assert state.errors[-1].text.startswith("poison: ")
        node.child("innocent")
        innocent = site.kept("innocent")
        assert (innocent.state, innocent.errors) == ("runnable", ())
        assert node.stop() == 0
