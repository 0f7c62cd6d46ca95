"""What processes print, as text for people. Pure: bytes in, text out."""

from __future__ import annotations

#: how much of the end of a run's output is kept in the state of its task
LAST_BYTES, LAST_LINES = 4 * 1024, 40


def last_written(line: bytes) -> bytes:
    """The text that is left of a line which was written over again and again: the last part that is not blank."""
    return next((part for part in reversed(line.split(b"\r")) if part.strip()), b"")


def last_words(printed: bytes) -> str:
    """The last lines of an output. printed: its end, at least as long as these lines. A line that was cut in front is
    left out if others follow it."""
    tail = printed[-LAST_BYTES:]
    if len(printed) > LAST_BYTES and b"\n" in tail[:-1]:
        tail = tail[tail.index(b"\n") + 1 :]
    lines = [last_written(line) if b"\r" in line else line for line in tail.split(b"\n")[-LAST_LINES - 1 :]]
    text = b"\n".join(lines).decode(errors="replace")
    return "\n".join(text.rstrip("\n").split("\n")[-LAST_LINES:])
