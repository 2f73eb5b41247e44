"""CPU-seconds per 1,000 model calls, without the model: what the client itself costs.

A server in a process of its own gives a fixed answer; this process asks it 1,000 times and more,
once over bare aiohttp and once through the client with key, journal, retries and decoding, then
replays the same calls, then asks a simulated model. Run: ``python benchmarks/client_overhead.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

from misalign_bench.config_model import ModelSettings
from misalign_bench.journal.store import Journal
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.chat_protocol import payload
from misalign_bench.llm.client import Answered, Client
from misalign_bench.llm.model import Request, Sample, Sampling
from misalign_bench.llm.providers import make_model
from misalign_bench.records import Message

TEXT = "A prompt and a response of the length that a judge reads. " * 26  # 1.5 KB


def serve(port_to: Connection) -> None:
    """Answer every POST on a kept-alive connection with the same body."""
    body = json.dumps(
        {
            "model": "fixed",
            "choices": [{"message": {"content": "word " * 100}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 400, "completion_tokens": 100},
        }
    ).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = head.encode() + body

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                headers = await reader.readuntil(b"\r\n\r\n")
                length = headers.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port_to.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def request(number: int) -> Request:
    messages = (Message("system", "Judge."), Message("user", f"{number} {TEXT}"))
    return Request(messages, Sampling(), Sample("judge"))


async def each(calls: int, in_flight: int, ask: Callable[[int], Awaitable[object]]) -> None:
    """Ask ``calls`` times with ``in_flight`` workers."""
    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(worker() for _ in range(in_flight)))


async def bare(url: str, calls: int, in_flight: int) -> None:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(number: int) -> None:
            body = json.dumps(payload(request(number), 1, "m")).encode()
            async with session.post(f"{url}/chat/completions", data=body) as response:
                json.loads(await response.read())

        await each(calls, in_flight, ask)


async def through_client(model: str, path: Path, calls: int, in_flight: int) -> None:
    settings = ModelSettings(model=model, concurrency=in_flight)
    journal = Journal.open(path)
    client = Client(make_model(settings), journal, seed=0, budget=Budget())

    async def ask(number: int) -> None:
        if not isinstance(await client.ask(request(number)), Answered):
            raise RuntimeError("a call failed")

    await each(calls, in_flight, ask)
    await client.close()
    await journal.close()


def measured(name: str, calls: int, work: Awaitable[None]) -> None:
    """Print CPU and wall time of one round."""

    async def run() -> None:
        await work

    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    asyncio.run(run())
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - started
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name:34s} {1000 * cpu / calls:8.3f} {calls / wall:12.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=64)
    options = parser.parse_args()
    calls, in_flight = options.calls, options.in_flight
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{here.recv()}/v1"
    print(f"Python {platform.python_version()}, {calls} calls, {in_flight} in flight")
    print(f"{'':34s} {'CPU s/1000':>8s} {'calls/s':>11s}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            path, other = Path(folder, "journal.sqlite"), Path(folder, "simulated.sqlite")
            asked = f"openai/m@{url}"
            measured("bare aiohttp", calls, bare(url, calls, in_flight))
            measured("client", calls, through_client(asked, path, calls, in_flight))
            measured("replay", calls, through_client(asked, path, calls, in_flight))
            simulated = through_client("simulated/generator", other, calls, 256)
            measured("simulated generator", calls, simulated)
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
