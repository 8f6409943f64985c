"""A TCP proxy whose connections a test can cut or freeze."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Forwards to `host:port`. While `refusing`, new connections end at once; while frozen, nothing moves."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.withheld = asyncio.Event()
        """Set once something was sent into the frozen proxy."""
        self.refusing = False
        self.port = 0
        self.accepted = 0

    def cut(self) -> None:
        """Ends every connection and refuses new ones until `restore`."""
        self.refusing = True
        for writer in list(self._writers):
            writer.transport.abort()

    def restore(self) -> None:
        self.refusing = False
        self._flowing.set()

    def freeze(self) -> None:
        """Connections stay, bytes do not arrive, until `restore`."""
        self._flowing.clear()
        self.withheld.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.accepted += 1
        try:
            upstream_reader, upstream = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, upstream}
        await asyncio.gather(self._pump(reader, upstream), self._pump(upstream_reader, writer))
        self._writers -= {writer, upstream}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not self._flowing.is_set():
                    self.withheld.set()
                    await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def proxied(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy on a free loopback port (`proxy.port`)."""
    proxy = Proxy(host, port)
    server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
