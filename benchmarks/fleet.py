"""Redis in a container, and a variable number of CPU-limited workers."""

from __future__ import annotations

import time
from contextlib import ExitStack

import yaml
from redis import Redis, RedisError
from rq.suspension import resume, suspend

from benchmarks.containers import Container
from benchmarks.picture import pngs
from producer import Queue
from shared import ROOT, keys
from shared.settings import Settings

#: Seconds from resuming the queue to the window: workers check once a second whether they are suspended.
WARM_SECONDS = 2.0


def redis_command() -> list[str]:
    """Return image and command of docker-compose.yml, with enough memory."""
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]
    return [service["image"], *("4gb" if word.startswith("$") else word for word in service["command"])]


class Fleet:
    """Redis, and workers that share its network; removed with the stack."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.server = self._run("-p", "127.0.0.1::6379", "-p", "127.0.0.1::8000", *redis_command())
        self.workers: list[Container] = []
        self.url = f"redis://127.0.0.1:{self.server.port(6379)}"
        self.redis = Redis.from_url(self.url, decode_responses=True)
        while not _answers(self.redis):
            time.sleep(0.1)
        self.queue = Queue(settings=Settings(redis_url=self.url))

    def _run(self, *words: str) -> Container:
        container = Container.run(*words)
        self._stack.callback(container.remove)
        return container

    def beside(self, image: str) -> Container:
        """Run a container in Redis's network."""
        return self._run("--network", f"container:{self.server.id}", "-e", "DIGITQ_LOG_LEVEL=WARNING", image)

    def grow(self, workers: int, cores: float) -> None:
        """Start workers up to this number, wait until they are ready, then limit their CPU."""
        while len(self.workers) < workers:
            self.workers.append(self.beside("digitq-worker"))
        for worker in self.workers[workers:]:
            worker.remove()
        del self.workers[workers:]
        while self.redis.zcount(keys.WORKERS, time.time(), "+inf") != workers:
            time.sleep(0.2)
        for worker in self.workers:
            worker.limit(cores)

    def fill(self, backlog: int) -> None:
        """Submit pictures until this many are queued."""
        missing = backlog - self.redis.llen(keys.queue("digitq"))
        if missing > 0:
            self.queue.submit_many(pngs(missing))

    def window(self, seconds: float) -> dict[str, float]:
        """Return pictures/s, and CPU µs a picture of Redis and of the workers, under full load."""
        resume(self.redis)
        time.sleep(WARM_SECONDS)
        began, done, cpu = time.perf_counter(), self.done(), self.cpu()
        time.sleep(seconds)
        count, took, after = self.done() - done, time.perf_counter() - began, self.cpu()
        assert self.redis.llen(keys.queue("digitq")), "the queue ran dry: the window says nothing"
        suspend(self.redis)
        while self.redis.zcard(keys.running("digitq")):
            time.sleep(0.1)
        redis, workers = (1e6 * (b - a) / count for a, b in zip(cpu, after, strict=True))
        return {"workers": len(self.workers), "rate": count / took, "redis_us": redis, "worker_us": workers}

    def done(self) -> int:
        return int(self.redis.zcard(keys.finished("digitq")))

    def cpu(self) -> tuple[float, float]:
        """Return the CPU seconds of Redis's main thread, and of all workers."""
        info = self.redis.info("cpu")
        main = info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]
        return main, sum(worker.cpu_s() for worker in self.workers)


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
