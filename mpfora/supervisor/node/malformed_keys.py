"""What becomes of keys that cannot be understood: each is logged once per value, and a command for this node is
deleted. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mpfora.cluster.changes import Malformed
from mpfora.supervisor import actions as do
from mpfora.supervisor.events import Now
from mpfora.supervisor.reports import Reports
from mpfora.supervisor.zygote.output import Allowance

#: so many keys are remembered, the newest; an older one may be logged again when everything is read anew
REMEMBERED = 10_000
#: up to so many lines come at once, and then one a second
MALFORMED_LINES = 200


class MalformedKeys:
    """node: this node's name."""

    def __init__(self, node: str, reports: Reports) -> None:
        self._node, self._reports = node, reports
        #: key -> revision of the value that was logged last
        self._logged: dict[str, int] = {}
        self._lines = Allowance(1.0, MALFORMED_LINES, MALFORMED_LINES)

    def found(self, bad: Malformed, now: Now) -> list[do.Action]:
        """The watch shows this key. Of a great many a few are logged each second, and that there are more. A command
        for a task is not deleted here, but by the task's owner."""
        text = f"ignored {bad.key!r} in the store: {bad.problem}"
        steps: list[do.Action] = []
        if self._is_new(bad) and self._lines.take(1, now.boot_s):
            steps.append(do.Say("warning", text))
        elif self._lines.tokens < 1:
            steps += self._reports.lasting(
                "malformed", "warning", f"{text}; of many such keys only some are reported", now.boot_s
            )
        if bad.node == self._node and bad.key_id is not None:
            steps.append(do.TakeNodeCommand(bad.node, bad.key_id))
        return steps

    def keep_only(self, found: Iterable[Malformed]) -> None:
        """Everything was read anew, and these are all that there are."""
        keys = {bad.key for bad in found}
        self._logged = {key: revision for key, revision in self._logged.items() if key in keys}

    def _is_new(self, bad: Malformed) -> bool:
        """Whether it is to be logged. It counts as logged from now on."""
        is_new = self._logged.pop(bad.key, None) != bad.revision
        self._logged[bad.key] = bad.revision
        if len(self._logged) > REMEMBERED:
            del self._logged[next(iter(self._logged))]
        return is_new
