"""The report of a run, as JSON and as a table."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from verify.kinds import KINDS
from verify.ledger import Finding, Ledger
from verify.pairs import kind_of

#: How many findings are listed.
SHOWN = 10


@dataclass
class Injection:
    """One fault, and how long the recovery took."""

    kind: str
    #: Seconds from the start of the run.
    at: float
    #: When recovery began: at a worker's death, or when Redis was back. Unix seconds.
    over: float
    #: Seconds from then until the next picture had its digit; None if it never had.
    next: float | None = None
    #: Seconds until everything submitted before had ended.
    rest: float = 0.0
    #: When recovery began for accepted pictures, if earlier: the second fault of a pair may not hinder them.
    since: float | None = None

    def measure(self, ledger: Ledger) -> None:
        """Take the known times from the ledger."""
        served = ledger.served_after(self.over)
        self.next = None if served is None else round(served, 3)
        self.rest = round(max(0.0, ledger.settled_after(self.over if self.since is None else self.since)), 3)

    @property
    def within(self) -> bool:
        """True if the recovery reached its goal."""
        _, goal, all_of_it, *_ = kind_of(self.kind)
        return self.next is not None and self.next <= goal and (not all_of_it or self.rest <= goal)


@dataclass
class Report:
    """The results of a run."""

    seconds: float
    seed: int
    rate: float
    ledger: Ledger
    findings: list[Finding]
    injections: list[Injection] = field(default_factory=list)
    limits: bool = True
    #: Exit codes of processes that died without having been killed, and the number of processes that killed ones left.
    deaths: dict[str, list[int]] = field(default_factory=dict)
    orphans: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """True if every guarantee held."""
        late = self.limits and not all(one.within for one in self.injections)
        return bool(self.ledger.entries) and not self.findings and not late

    def to_json(self) -> dict[str, Any]:
        """Return the whole report with all findings as a JSON object."""
        found = Counter(finding.what for finding in self.findings)
        return {
            "kept": self.kept,
            **self.ledger.tally(),
            **{what: found[what] for what in ("doubled", "changed", "wrong", "unexpected", "leftover")},
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
            "rate": self.rate,
            "failures": self.ledger.failures(),
            "seen": dict(sorted(self.ledger.counts.items())),
            "faults": {kind: _summary(those) for kind, those in self._by_kind().items()},
            "injections": [{**vars(one), "within": one.within} for one in self.injections],
            "deaths": self.deaths,
            "orphans": self.orphans,
            "findings": [finding._asdict() for finding in self.findings],
        }

    def text(self) -> str:
        """Return the report as a table."""
        n = self.to_json()
        lines = [f"{'fault':<18} {'times':>5}  {'next picture (s)':>17}  {'all before it (s)':>17}  {'goal':>5}"]
        lines += [f"{'':<18} {'':>5}  {'p50':>8} {'max':>8}  {'p50':>8} {'max':>8}"] if self.injections else []
        lines = lines if self.injections else ["no faults injected"]
        for kind, row in n["faults"].items():
            times = " ".join(f"{_seconds(row['next'][at]):>8}" for at in ("p50", "max"))
            rest = " ".join(f"{_seconds(row['rest'][at]):>8}" for at in ("p50", "max"))
            mark = "" if row["within"] else "  late"
            lines.append(f"{kind:<18} {row['times']:>5}  {times}  {rest}  {row['goal']:>5g}{mark}")
        ends = " + ".join(f"{n[state]} {state}" for state in ("succeeded", "failed", "cancelled", "expired"))
        declared = f" + {n['lost_declared']} lost and said so" if n["lost_declared"] else ""
        evicted = f" + {n['evicted']} deleted to make room" if n["evicted"] else ""
        lines += ["", f"accepted {n['accepted']} = {ends}{evicted}{declared}, lost {n['lost']}, doubled {n['doubled']}"]
        lines.append(", ".join(f"{what} {n[what]}" for what in ("changed", "wrong", "unexpected", "leftover")))
        for title in ("failures", "seen"):
            lines.append(f"{title}: " + (", ".join(f"{what} {count}" for what, count in n[title].items()) or "none"))
        lines += [f"{name} died by itself: exit codes {codes}" for name, codes in self.deaths.items()]
        lines += [f"{name} left {count} processes behind when it was killed" for name, count in self.orphans.items()]
        lines += [f"{one.what}: {one.subject}: {one.detail}" for one in self.findings[:SHOWN]]
        lines += [f"and {len(self.findings) - SHOWN} more"] if len(self.findings) > SHOWN else []
        return "\n".join(lines)

    def _by_kind(self) -> dict[str, list[Injection]]:
        found = defaultdict(list)
        for one in self.injections:
            found[one.kind].append(one)
        known = [*KINDS]
        return {kind: found[kind] for kind in sorted(found, key=lambda kind: [known.index(p) for p in kind.split("+")])}


def _summary(those: list[Injection]) -> dict[str, Any]:
    _, goal, all_of_it, *_ = kind_of(those[0].kind)
    return {
        "times": len(those),
        "next": _spread([one.next for one in those]),
        "rest": _spread([one.rest for one in those]),
        "goal": goal,
        "goal_for_all_before": all_of_it,
        "within": all(one.within for one in those),
    }


def _spread(seconds: list[Any]) -> dict[str, float | None]:
    known = [one for one in seconds if one is not None]
    longest = None if None in seconds else round(max(known), 2)
    return {"p50": round(statistics.median(known), 2) if known else None, "max": longest}


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}"
