"""A server before another one, as a process: ``python -m tests.support.relay PORT PORT_BEHIND``.

The S3 emulator keeps everything in memory, so killing it would lose what it acknowledged, which no store does. What a client sees
of a killed store, connections that end in the middle of requests and are refused for a while, it sees when this process is killed.
"""

import asyncio
import sys
from contextlib import suppress


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def serve(port: int, behind: int) -> None:
    """Pass everything on, both ways."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", behind)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
