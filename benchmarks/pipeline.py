"""The whole pipeline as a user has it: HTTP upload to the digit in the client's hand.

    python -m benchmarks.pipeline [--clients 64] [--seconds 10] [--workers 1]

One client alone for the latency, then many for the throughput; every answer is checked. Starts its own stack.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from pathlib import Path

from tests.pictures import seven
from tests.stack import up

PICTURE = seven()


def client(port: int, end: float, latencies: list[float]) -> None:
    """POST with `Prefer: wait`, one after the other on one connection, until `end`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while time.perf_counter() < end:
        start = time.perf_counter()
        connection.request("POST", "/v1/predictions", PICTURE, {"Content-Type": "image/png", "Prefer": "wait=20"})
        answer = json.loads(connection.getresponse().read())
        while answer["state"] in ("queued", "running"):  # the waiting room was full
            connection.request("GET", f"/v1/predictions/{answer['id']}?wait=20")
            answer = json.loads(connection.getresponse().read())
        assert answer["digit"] == 7, answer
        latencies.append((time.perf_counter() - start) * 1000)
    connection.close()


def measure(port: int, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Pictures per second and the sorted latencies in ms."""
    latencies: list[float] = []
    start = time.perf_counter()
    threads = [threading.Thread(target=client, args=(port, start + seconds, latencies)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(latencies) / (time.perf_counter() - start), sorted(latencies)


def cpu_seconds(pids: list[int]) -> float:
    ticks = os.sysconf("SC_CLK_TCK")
    return sum(
        sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / ticks for pid in pids
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder, up(Path(folder), options.workers) as stack:
        port = int(stack.url.rpartition(":")[2])
        measure(port, 4, 2)  # warm-up
        print(f"{platform.machine()}, {os.cpu_count()} cores shared with the client, {options.workers} worker(s)")
        for clients in (1, options.clients):
            before = cpu_seconds(stack.pids())
            rate, ms = measure(port, clients, options.seconds)
            cpu = (cpu_seconds(stack.pids()) - before) / len(ms) * 1e6
            p50, p99 = statistics.median(ms), ms[int(len(ms) * 0.99)]
            figures = f"{rate:7.0f} pictures/s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  {cpu:6.0f} us CPU a picture"
            print(f"{clients:3} clients  {figures}")


if __name__ == "__main__":
    main()
