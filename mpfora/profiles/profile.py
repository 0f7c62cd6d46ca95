"""Profile: where a task has spent its time, and the files that tools read it from."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpfora.errors import BadValue
from mpfora.profiles.flame_graph import flame_graph

#: frames of one stack that are kept, of both ends
_OUTERMOST, _INNERMOST = 50, 150
#: what calls the code that is looked at
_CALLERS = ("/mpfora/child/run/call_handler.py:", "/mpfora/child/pool/call.py:")
#: the endings of a file's name
_SUFFIXES = (".html", ".json", ".collapsed", ".txt")


@dataclass(frozen=True, slots=True)
class Profile:
    """What was seen of a task, or of a call of a pool, which has its function's name as `task_id`.

    stacks  (frames, microseconds): the frames from the thread's name on, the innermost last
    by      what is counted: "wall", "cpu" or "gil"
    how     who tells: "task" (it itself) or "py-spy"
    note    what else is to be known; "" if nothing
    attempt which of its runs it was; 0: its node is of a version that does not tell"""

    task_id: str
    node: str
    pid: int
    by: str
    how: str
    note: str
    stacks: tuple[tuple[tuple[str, ...], int], ...] = field(repr=False)
    attempt: int = 0

    @property
    def seconds(self) -> float:
        """The time that all threads have spent together."""
        return sum(weight for _, weight in self.stacks) / 1e6

    def places(self, count: int = 20) -> list[tuple[str, float]]:
        """The places where most of it was spent, innermost frames only, with their shares from 0 to 1."""
        weights: Counter[str] = Counter()
        for frames, weight in self.stacks:
            weights[frames[-1]] += weight
        total = sum(weights.values()) or 1
        return [(place, weight / total) for place, weight in weights.most_common(count)]

    def collapsed(self) -> str:
        """A line a stack, as flame graph tools read it: frames with semicolons between, and microseconds."""
        return "".join(f"{';'.join(frames)} {weight}\n" for frames, weight in self.stacks)

    def speedscope(self) -> dict[str, Any]:
        """For https://www.speedscope.app: a profile for each thread."""
        numbers: dict[str, int] = {}
        threads: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        for (thread, *frames), weight in self.stacks:
            threads.setdefault(thread, []).append((tuple(frames) or (thread,), weight))
        profiles = []
        for thread, stacks in threads.items():
            samples = [[numbers.setdefault(frame, len(numbers)) for frame in frames] for frames, _ in stacks]
            weights = [weight for _, weight in stacks]
            span = {"startValue": 0, "endValue": sum(weights), "unit": "microseconds"}
            profiles.append({"type": "sampled", "name": thread, **span, "samples": samples, "weights": weights})
        return {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "name": self.title,
            "shared": {"frames": [{"name": frame} for frame in numbers]},
            "profiles": profiles,
        }

    def html(self) -> str:
        """A page by itself: a flame graph that can be searched and zoomed."""
        return flame_graph(self.title, self.stacks)

    @property
    def title(self) -> str:
        return f"{self.task_id} on {self.node}, process {self.pid}, {self.seconds:.1f} s of {self.by} time"

    def save(self, path: str | Path) -> None:
        """As what its name ends in: .html, .json (speedscope) or .collapsed. Raises BadValue for another ending,
        OSError."""
        check_path(path)
        match Path(path).suffix:
            case ".html":
                text = self.html()
            case ".json":
                text = json.dumps(self.speedscope())
            case _:
                text = self.collapsed()
        Path(path).write_text(text, encoding="utf-8")


def check_path(path: str | Path) -> None:
    """Raises BadValue for a name whose ending says of no format."""
    if Path(path).suffix not in _SUFFIXES:
        raise BadValue(f"{str(path)!r}: a profile's file ends in .html, .speedscope.json or .collapsed")


def parse_stacks(text: str) -> tuple[tuple[tuple[str, ...], int], ...]:
    """What a node says; lines that are no stacks are left out."""
    found = []
    for line in text.splitlines():
        frames, _, weight = line.rpartition(" ")
        if frames and weight.isascii() and weight.isdigit() and len(weight) < 16:
            found.append((tuple(_readable(frames).split(";")), int(weight)))
    return tuple(found)


def _readable(frames: str) -> str:
    """The stack without the frames below the call of the handler, or of a pool's function: these are alike in all
    runs."""
    thread, *rest = frames.split(";")
    calls = [number for number, frame in enumerate(rest) if any(caller in frame for caller in _CALLERS)]
    kept = rest[calls[-1] + 1 :] if calls else rest
    if len(kept) > _OUTERMOST + _INNERMOST:
        kept = [*kept[:_OUTERMOST], "(more frames)", *kept[-_INNERMOST:]]
    return ";".join((thread, *(kept or rest[-1:])))
