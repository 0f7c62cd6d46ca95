"""What was said already of keys that cannot be understood: each is told once, for as long as it stands there as it is.
Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mpfora.supervisor.changes import Malformed

#: so many keys are remembered, the newest; of older ones it may be told again when everything is read anew
REMEMBERED = 10_000


class Told:
    """revisions: by key, that of the value that was told of."""

    def __init__(self) -> None:
        self.revisions: dict[str, int] = {}

    def is_new(self, bad: Malformed) -> bool:
        """Whether it is to be told. It counts as told from now on."""
        if self.revisions.pop(bad.key, None) == bad.revision:
            self.revisions[bad.key] = bad.revision
            return False
        self.revisions[bad.key] = bad.revision
        if len(self.revisions) > REMEMBERED:
            del self.revisions[next(iter(self.revisions))]
        return True

    def keep_only(self, found: Iterable[Malformed]) -> None:
        """Everything was read anew, and these are all that there are."""
        keys = {bad.key for bad in found}
        self.revisions = {key: revision for key, revision in self.revisions.items() if key in keys}
