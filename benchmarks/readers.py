"""Many people who read the console at once: `python -m benchmarks.readers PORT`, on loopback and for a bounded time.

It signs in who runs it, once for each reader, to the registry of the environment's lake, which `octo serve` serves on that port.
Each reader asks for a page every few seconds; printed are the errors and how long answers took.
"""

import http.client
import random
import sys
import threading
import time

from octo_pipeline.api.limits import SESSION
from octo_pipeline.services.access import caller
from octo_pipeline.settings import load_settings
from octo_pipeline.workspace import Workspace

READERS, SECONDS, PAUSE = 200, 30, 5.0
PATHS = (
    "/",
    "/allocations",
    "/rules",
    "/cost-groups",
    "/accounts",
    "/statements",
    "/data",
    "/allocations?category=fee",
)


def main(port: int) -> None:
    """Sign all readers in and have them read."""
    netloc = f"127.0.0.1:{port}"
    workspace = Workspace(load_settings())
    cookies = [f"{SESSION}={workspace.registry.sessions.begin(caller(workspace), 'load test')}" for _ in range(READERS)]
    took: list[tuple[str, int, float]] = []
    until = time.monotonic() + SECONDS
    threads = [
        threading.Thread(target=_read, args=(netloc, cookie, seed, until, took)) for seed, cookie in enumerate(cookies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(seconds for _, _, seconds in took)
    failed = sorted({(path, status) for path, status, _ in took if status != 200})
    print(
        f"{len(took)} requests of {READERS} readers in {SECONDS} s, {sum(s != 200 for _, s, _ in took)} failed {failed}"
    )
    for share in (0.5, 0.95, 0.99):
        print(f"p{share * 100:.0f} {times[int(len(times) * share)] * 1000:.0f} ms")


def _read(netloc: str, cookie: str, seed: int, until: float, took: list[tuple[str, int, float]]) -> None:
    chance = random.Random(seed)
    time.sleep(chance.uniform(0, PAUSE))
    while time.monotonic() < until:
        path = chance.choice(PATHS)
        begin = time.monotonic()
        try:
            connection = http.client.HTTPConnection(netloc, timeout=60)
            connection.request("GET", path, headers={"Cookie": cookie})
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except OSError:
            status = 0
        took.append((path, status, time.monotonic() - begin))
        time.sleep(PAUSE)


if __name__ == "__main__":
    main(int(sys.argv[1]))
