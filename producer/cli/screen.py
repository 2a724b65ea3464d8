"""Formats the status of the service and the last predictions as text, for `digitq watch` and `digitq status`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from producer.cli.output import text_line
from shared.addresses import without_password
from shared.prediction import Prediction


def screen(url: str, status: dict[str, Any], last: Iterable[Prediction], now: float, trouble: str = "") -> list[str]:
    """Return the lines of the screen; `now` is a Unix time, and `trouble` replaces the hint at Ctrl-C."""
    lines = [f"digitq {without_password(url)}  {_clock(now)}  {trouble or 'Ctrl-C ends'}", ""]
    if status.get("redis"):
        p50, p95 = (_number(status[name], "ms") for name in ("p50_ms", "p95_ms"))
        lines += [*load_lines(status), f"times     typical {p50}   slowest 5 % {p95}"]
    elif status:
        lines.append(status.get("reason") or "Redis does not answer")
    else:
        lines.append("No status received yet")
    predictions = (f"{_clock(p.finished_at or now)}  {text_line(p.to_json(), p.filename or p.id)}" for p in last)
    return [*lines, "", *reversed([*predictions])]


def status_line(status: dict[str, Any], now: float) -> str:
    """Return a status as `12:00:00 queued=3 running=1 …`, for a log or for cut and awk."""
    if not status.get("redis"):
        return f"{_clock(now)} redis=down"
    workers = status["workers"]
    values = {"queued": status["queued"], "running": status["running"], "alive": workers["alive"],
              "busy": workers["busy"], "needed": workers.get("needed"), "arrivals": status.get("arrivals_per_second"),
              "per_second": status["per_second"], "eta_ms": status.get("eta_ms"), "p50_ms": status["p50_ms"],
              "p95_ms": status["p95_ms"]}  # fmt: skip
    return " ".join([_clock(now), *(f"{name}={'-' if value is None else value}" for name, value in values.items())])


def load_lines(status: dict[str, Any]) -> list[str]:
    """Return the load of the queue and the workers as three lines, and one for the models. Older servers omit some."""
    get, workers = status.get, status["workers"]
    goal = f"{_number(workers.get('needed'))} needed for the goal of {_duration(get('latency_goal_ms'))}"
    rates = f"{_number(get('arrivals_per_second'))}/s in   capacity {_number(get('capacity_per_second'))}/s"
    times = f"oldest {_duration(get('oldest_ms'))}   done in {_duration(get('eta_ms'))}"
    return [
        f"queue     {status['queued']:>8} waiting   {status['running']:>6} running   {times}",
        f"workers   {workers['alive']:>8} alive     {workers['busy']:>6} busy      {goal}",
        f"speed     {status['per_second']:>8} pictures/s   {rates}",
        *([f"model     {served_models(workers)}"] if workers.get("models") else []),
    ]


def served_models(workers: dict[str, Any]) -> str:
    """Return the model that the workers serve, or each with their number, and whether a newer one is refused."""
    models, refusing = workers["models"], workers.get("refusing")
    names = [f"{name} ({alive} of {workers['alive']} workers)" for name, alive in models.items()]
    text = ", ".join(names) if len(models) > 1 else next(iter(models))
    return f"{text}   a newer one is refused, see GET /v1/model" if refusing else text


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:,g} {unit}".rstrip()


def _duration(ms: float | None) -> str:
    """Return milliseconds as `0.4 s`, `12 s` or `4 min`."""
    if ms is None:
        return "-"
    seconds = ms / 1000
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
