"""A proxy for TCP on the loopback whose links can be cut, stalled and delayed, each way on its own. Runs in a thread.

A Link is what is between two ends, whatever the number of connections over it. A stalled direction keeps what it was
given and passes it on when it is mended: late, as a network does.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_CHUNK = 64 * 1024
#: so many pieces are on the way at most, each direction
_PIECES = 256


class Link:
    """To one port. Its methods may be called from any thread."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.is_cut = False
        #: by direction, "up" to the port and "down" from it: seconds that each piece is held; None: for ever
        self.hold: dict[str, float | None] = {"up": 0.0, "down": 0.0}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: dict[str, asyncio.Event] = {}
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Every connection breaks, and no new one is made."""
        self.is_cut = True
        self._tell(self._break)

    def stall(self, *directions: str) -> None:
        """What is sent in these directions ("up", "down") stays on the way."""
        for direction in directions:
            self.hold[direction] = None

    def delay(self, seconds: float, *directions: str) -> None:
        """Each piece takes so much longer: each way, or in these directions only."""
        self.hold |= dict.fromkeys(directions or ("up", "down"), seconds)
        self._tell(self._wake)

    def mend(self) -> None:
        """All is well again; what was held is passed on."""
        self.is_cut = False
        self.delay(0.0)

    def _tell(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the proxies are closed
                self._loop.call_soon_threadsafe(call)

    def _wake(self) -> None:
        for event in self._changed.values():
            event.set()
        self._changed = {}

    def _break(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    # -- in the proxies' loop -----------------------------------------------------------------------------------------

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        self._loop = asyncio.get_running_loop()
        if self.is_cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        pumps = [
            asyncio.ensure_future(self._pump("up", reader, far_writer)),
            asyncio.ensure_future(self._pump("down", far_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, each piece as late as the delay is: a longer way, and no narrower one."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)
        reading = asyncio.ensure_future(_read(reader, pieces))
        try:
            with suppress(OSError):
                while (piece := await pieces.get())[1]:
                    while (seconds := self.hold[direction]) is None:
                        await self._changed.setdefault(direction, asyncio.Event()).wait()
                    await asyncio.sleep(max(0.0, piece[0] + seconds - time.monotonic()))
                    writer.write(piece[1])
                    await writer.drain()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
    """Pieces with the time at which they came; an empty one is the end."""
    data = b"any"
    while data:
        try:
            data = await reader.read(_CHUNK)
        except OSError:
            data = b""
        await pieces.put((time.monotonic(), data))


class Proxies:
    """Any number of listening ports, served by one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._joined: set[asyncio.Future[None]] = set()
        self._thread = threading.Thread(target=self._turn, name="proxies", daemon=True)
        self._thread.start()

    def _turn(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()

    def listen(self, link_of: Callable[[int], Link]) -> int:
        """A new port. `link_of` is given the port of who connects, and called in the proxies' thread."""

        async def serve() -> int:
            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                peer = writer.get_extra_info("peername")
                if peer is None:
                    writer.transport.abort()
                    return
                joined = asyncio.ensure_future(link_of(peer[1]).join(reader, writer))
                self._joined.add(joined)
                joined.add_done_callback(self._joined.discard)

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            port: int = server.sockets[0].getsockname()[1]
            return port

        return asyncio.run_coroutine_threadsafe(serve(), self._loop).result(10)

    def listen_for(self, link: Link) -> int:
        """A new port whose every connection goes over `link`."""
        return self.listen(lambda _: link)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
