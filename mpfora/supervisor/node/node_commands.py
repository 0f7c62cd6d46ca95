"""Node commands: freeze, drain, balance and the like, each carried out once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mpfora.cluster.changes import NodeCommandPut
from mpfora.supervisor import actions as do
from mpfora.supervisor.events import Now, ReloadAsked, ShutdownAsked
from mpfora.supervisor.node.status import NodeStatus
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks

#: the exit code of a node that is to be started again (EX_TEMPFAIL; RestartForceExitStatus= in its systemd unit)
RESTART = 75


class NodeCommands:
    """node: this node's name;  balance_now: asks the balancer at once (boot time);  reload, leave: carry out what
    these events ask for."""

    def __init__(
        self,
        node: str,
        status: NodeStatus,
        claimed: ClaimedTasks,
        balance_now: Callable[[float], None],
        reload: Callable[[ReloadAsked, Now], list[do.Action]],
        leave: Callable[[ShutdownAsked, Now], list[do.Action]],
    ) -> None:
        self._node, self._status, self._claimed, self._balance_now = node, status, claimed, balance_now
        self._reload, self._leave = reload, leave

    def found(self, commands: Iterable[NodeCommandPut], now: Now) -> list[do.Action]:
        """The watch shows these commands. They are carried out in the order of their revisions, each once. The key is
        deleted however often it is seen."""
        steps: list[do.Action] = []
        for command in sorted(commands, key=lambda command: command.revision):
            if command.node == self._node:
                steps.append(do.TakeNodeCommand(command.node, command.key_id))
                if self._status.take(command.revision, command.key_id):
                    steps += self._carry_out(command, now)
        return steps

    def _carry_out(self, command: NodeCommandPut, now: Now) -> list[do.Action]:
        task_id = str(command.parameters.get("task", ""))
        steps: list[do.Action] = [do.Say("info", f"node command {command.verb}", task_id)]
        if command.verb == "reload":
            within_s = command.parameters.get("within")
            steps += self._reload(ReloadAsked("reload command", within_s, command.revision), now)
        elif command.verb == "restart":
            steps += self._restart(command, now)
        elif command.verb == "balance":
            self._balance_now(now.boot_s)
        elif command.verb == "stop_task":
            if not self._claimed.give_back(task_id, "stop_task command"):
                steps.append(do.Say("warning", "stop_task: this task is not on this node", task_id))
        elif self._status.obey(command.verb):
            steps.append(do.Publish(self._status.member()))
            self._claimed.give_all_back(self._status.leave)
        return steps

    def _restart(self, command: NodeCommandPut, now: Now) -> list[do.Action]:
        """Leave, to be started again. A command that is for a former life of this node has been carried out."""
        if command.parameters.get("created") != self._status.created:
            return [do.Say("info", "restart: that was for a former start of this node")]
        if self._status.shutdown:
            return [do.Say("info", "restart: the node is leaving already")]
        return self._leave(ShutdownAsked(f"restart command (exit code {RESTART}: to be started again)", RESTART), now)
