"""Faults in pairs: which comes when, what they have to wait for, and how they are named."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import click
import pytest

from shared.prediction import Prediction, State
from verify import kinds
from verify.cli import chosen
from verify.kinds import KINDS, Kind
from verify.ledger import Ledger
from verify.means import Scene
from verify.pairs import PAIRS, kind_of, named, play


class Stage:
    """Two faults that say what they do: a death, and one that lasts, in a pair for as long as need be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hinders: bool = False) -> None:
        self.said: list[str] = []
        self.scene = Scene(cast("Any", None), Ledger(), random.Random(1))
        monkeypatch.setitem(KINDS, "kill", Kind(self.fault("death", hinders=True), 10, True))
        monkeypatch.setitem(KINDS, "redis-full", Kind(self.fault("full", hinders), 5, False, hinders))

    def fault(self, name: str, hinders: bool) -> Callable[[Scene], float]:
        def play(scene: Scene) -> float:
            self.said.append(f"{name} begins")
            at = time.time()
            scene.last(0.01, 0.01, hinders)
            self.said.append(f"{name} is over")
            return at if name == "death" else time.time()

        return play

    def wait_for(self, line: str) -> None:
        end = time.monotonic() + 5
        while line not in self.said and time.monotonic() < end:
            time.sleep(0.005)
        assert line in self.said


def test_the_second_comes_while_the_harm_of_the_first_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    over, since = play("kill+redis-full", stage.scene)
    assert stage.said == ["death begins", "full begins", "full is over", "death is over"]
    assert since < over


def test_what_hinders_nothing_lasts_until_all_that_was_accepted_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    entry = stage.scene.ledger.accept("a", "a", 7, time.time(), True)
    playing = threading.Thread(target=play, args=("kill+redis-full", stage.scene))
    playing.start()
    stage.wait_for("full begins")
    playing.join(0.05)
    assert "full is over" not in stage.said
    stage.scene.ledger.saw(entry, Prediction("a", State.SUCCEEDED, digit=7, finished_at=time.time()))
    playing.join(5)
    assert stage.said[-1] == "death is over"


def test_a_hindering_fault_ends_and_recovery_begins_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, hinders=True)
    stage.scene.ledger.accept("a", "a", 7, time.time(), True)
    over, since = play("kill+redis-full", stage.scene)
    assert over == since


def test_one_fault_alone_lasts_for_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.scene.ledger.accept("a", "a", 7, time.time(), True)
    over, since = play("redis-full", stage.scene)
    assert (over, stage.said) == (since, ["full begins", "full is over"])


def test_a_pair_has_to_reach_the_goals_of_both() -> None:
    assert kind_of("kill+redis-full")[1:] == (kinds.AFTER_A_DEATH, True, False, kinds.SINGLE)
    assert kind_of("pause+cut")[1:] == (kinds.AFTER_A_DEATH, True, True, kinds.SINGLE)
    assert kind_of("redis-full")[1:] == (kinds.AFTER_REDIS, False, False, kinds.SINGLE)
    assert kind_of("kill+demote")[1:] == (kinds.AFTER_A_DEATH, True, True, kinds.WATCHED)
    assert kind_of("kill")[1:] == (kinds.AFTER_A_DEATH, True, True, kinds.EITHER)


def test_pairs_are_named_in_any_order_and_lists_may_name_groups() -> None:
    def names(text: str) -> list[str]:
        return chosen(cast("Any", None), cast("Any", None), text)

    assert names("redis-full+kill,cut") == ["kill+redis-full", "cut"]
    assert (names("single"), names("pairs"), names("none")) == ([*KINDS], [*PAIRS], [])
    assert names("all") == [*KINDS, *PAIRS]
    assert names("sentinels") == ["failover", "demote", "kill+failover", "kill+demote"]
    assert [named(pair) for pair in PAIRS] == [*PAIRS]
    for wrong in ("meteor", "kill+meteor", "kill+kill", "kill+cut+slow", "cut+demote"):
        with pytest.raises(click.BadParameter, match="known are kill"):
            names(wrong)
