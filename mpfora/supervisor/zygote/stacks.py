"""The stacks that a run wrote before it was killed, cut to what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mpfora.ipc import look_area, run_file
from mpfora.ipc.look_area import HALFWAY

#: of longer stacks the beginning and the end are kept, together this much
STACKS_KEPT = 16 * 1024
#: and of those before, to compare
HALFWAY_KEPT = 8 * 1024
_CHILD = Path(__file__).parents[2] / "child"
#: how a frame of the child's modules that call the handler begins; what is below it is the same in every run
_CALLERS = tuple(f'  File "{_CHILD / module}", line ' for module in ("run/call_handler.py", "pool/call.py"))


def read_stacks(fd: int) -> str:
    """The text that is kept of a run's file, "" if nothing was written. The run is dead."""
    written = run_file.stacks(fd)
    return _both_ends(without_our_frames(written.decode(errors="replace")), STACKS_KEPT)


def read_halfway(fd: int, now_ns: int) -> str:
    """Where a run was that has stalled, when half of its stall_timeout was over; "" if it did not say. now_ns: its end,
    by the boot clock."""
    found = look_area.answer_to_last(fd, HALFWAY)
    if found is None or not found[1]:
        return ""
    at_ns, text = found
    ago_s = max(0, now_ns - at_ns) / 1e9
    kept = _both_ends(without_our_frames(text.decode(errors="replace")).strip("\n"), HALFWAY_KEPT)
    return f"\n\n{ago_s:.1f} s before, at half of its stall_timeout:\n\n{kept}"


def _both_ends(stacks: str, most: int) -> str:
    text = stacks.encode(errors="replace")
    if len(text) > most:
        half = most // 2
        text = text[:half] + b"\n... %d bytes left out ...\n" % (len(text) - 2 * half) + text[-half:]
    return text.decode(errors="replace")


def without_our_frames(text: str) -> str:
    """The stacks, as faulthandler writes them (most recent call first), each down to where the handler was called.

    A stack that begins there keeps its first frame: a thread is never left without any."""
    return "\n".join(_kept_lines(text.split("\n")))


def _kept_lines(lines: list[str]) -> Iterator[str]:
    frames, is_below = 0, False
    for line in lines:
        if not line.startswith("  "):  # a thread's first line, or the empty one before it
            frames, is_below = 0, False
        else:
            is_below = is_below or (frames > 0 and line.startswith(_CALLERS))
            frames += 1
        if not is_below:
            yield line
