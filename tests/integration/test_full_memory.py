"""The judgement of `benchmarks.full_memory`: its figures, and the broken guarantees it finds."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from benchmarks.memory_report import Sample, broken, drawn, figures, longest, windows, without
from benchmarks.pressure import Notes, Refusals

LIMIT = 64 * 2**20
EVENTS = [
    (30.0, "worker killed"),
    (60.0, "worker killed"),
    (90.0, "all killed"),
    (100.0, "ready"),
    (120.0, "load ends"),
]
QUIET = Sample(0.0, LIMIT * 9 // 10, LIMIT, 0, 5.0)


def run(notes: Notes, oldest_end: float = 5.0) -> list[str]:
    """Return the guarantees that a run of two minutes with these notes breaks; predictions end all the time."""
    samples = [replace(QUIET, at=number / 4, oldest_end=oldest_end) for number in range(480)]
    return broken(figures(notes, samples, EVENTS, 0.0, 120.0), LIMIT)


def good() -> Notes:
    """Notes of a run in which every picture is accepted, and ends a second later."""
    notes = Notes(accepted={str(at): at / 2 for at in range(240)})
    for id in notes.accepted:
        notes.end(id, "succeeded")
    return notes


def test_a_run_without_trouble_breaks_no_promise() -> None:
    assert run(good()) == []


def test_what_never_ended_is_found_unless_the_server_was_killed_before_its_log_was_written() -> None:
    notes = good()
    notes.accepted |= {"lost": 40.0, "near": 89.0}
    assert run(notes) == ["1 were accepted and never ended"]


def test_refusals_in_a_row_count_only_where_something_could_be_deleted_and_everything_was_up() -> None:
    notes = good()
    notes.runs = [Refusals(40.0, 43.0, 9)]
    assert run(notes) == ["longest_503_of_a_client_while_something_could_go_s: 3.0"]
    assert run(notes, oldest_end=1.0) == []
    notes.runs = [Refusals(91.0, 99.0, 9)]
    assert run(notes) == []


def test_a_pause_of_everybody_counts_where_somebody_was_refused() -> None:
    notes = good()
    notes.accepted = {id: at for id, at in notes.accepted.items() if not 40 < at < 45}
    assert run(notes) == []
    notes.refused = [42.0]
    assert run(notes) == ["longest_without_a_202_while_something_could_go_s: 5.0"]


def test_too_much_memory_and_a_memory_that_was_never_full_are_found() -> None:
    for share, text in ((1.1, "more memory was used than allowed"), (0.5, "memory was never full")):
        samples = [replace(QUIET, used=int(share * LIMIT), at=number / 4) for number in range(480)]
        assert broken(figures(good(), samples, EVENTS, 0.0, 120.0), LIMIT) == [text]


def test_windows_are_joined_from_look_to_look_and_cut() -> None:
    looks = [replace(QUIET, at=at) for at in (1.0, 1.25, 1.5, 9.0)]
    assert windows(looks, lambda _: True) == [(1.0, 1.5), (9.0, 9.0)]
    assert without([(0.0, 10.0)], (3.0, 4.0)) == [(0.0, 3.0), (4.0, 10.0)]
    assert without([(3.2, 3.8)], (3.0, 4.0)) == []
    assert longest([(0.0, 5.0), (7.0, 8.0)], [(4.0, 7.5)]) == 1.0


def test_the_picture_stands_for_itself() -> None:
    samples = [replace(QUIET, at=number / 4) for number in range(480)]
    svg = ElementTree.fromstring(drawn(good(), samples, EVENTS, 0.0, 120.0, LIMIT))
    words = [node.text for node in svg.iter() if node.text]
    assert {"accepted", "ended", "maxmemory", "all killed", "seconds"} <= set(words)
