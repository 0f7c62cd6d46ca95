"""The report of a child at its end, read from its frame: a result, a message or an error.

A child may say anything: each field is checked here, and cut to its length.
"""

from __future__ import annotations

from mpfora.ipc import frames
from mpfora.model.outcome import Said, SaidError, SaidMessage, SaidResult
from mpfora.model.state import Message, Verb
from mpfora.store.json_format import parse_kept

#: names of classes that an exception is of
_KINDS = 64
#: characters of such a name
_KIND = 1_000
#: characters of a text of an error; a child that is well says less
_TEXT = 64 * 1024


def parse_said(frame: frames.Frame) -> Said:
    """A child's last word. Raises FrameError for what a child does not say, InvalidMessage for what is not a
    message."""
    match frame:
        case frames.Returned():
            return SaidResult(_json_value(frame.result_json))
        case frames.ReturnedMessage():
            return SaidMessage(_message(frame))
        case frames.Failed():
            texts = (frame.text, frame.traceback, frame.kind)
            if not all(isinstance(text, str) for text in texts):
                raise frames.FrameError(f"a Failed frame with fields that are not text: {str(texts)[:80]}")
            text, trace, kind = (text[:_TEXT] for text in texts)
            return SaidError(
                text, trace, kind[:_KIND], frame.at_start is True, _kinds(frame.kinds), of_node=frame.of_node is True
            )
    raise frames.FrameError(f"a {type(frame).__name__} frame, which no child sends")


def checked_json(text: object) -> str:
    """The text itself, once it is known to be JSON that can be written: it goes to the store as it is. Raises
    FrameError."""
    _json_value(text)
    assert isinstance(text, str)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise frames.FrameError(f"a checkpoint that is not Unicode text: {str(error)[:200]}") from error
    return text


def _kinds(kinds: object) -> tuple[str, ...]:
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise frames.FrameError("a Failed frame whose kinds are not a list of names")
    return tuple(kind[:_KIND] for kind in kinds[:_KINDS])


def _message(frame: frames.ReturnedMessage) -> Message:
    """Raises InvalidMessage where `until` is not a time."""
    try:
        verb = Verb(frame.verb)
    except (ValueError, TypeError) as error:
        raise frames.FrameError(f"a ReturnedMessage frame with {str(error)[:200]}") from error
    checkpoint = None if frame.checkpoint_json is None else checked_json(frame.checkpoint_json)
    return Message(verb, frame.until, checkpoint, _json_value(frame.result_json))


def _json_value(text: object) -> object:
    """A value that can be written again."""
    try:
        return parse_kept(text, "what it says")  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError) as error:
        raise frames.FrameError(str(error)) from error
