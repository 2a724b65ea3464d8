"""Buffers of request bodies: memory, temporary files, and their release."""

from __future__ import annotations

from io import BytesIO

import pytest

from producer.serving import bodies
from producer.serving.bodies import Body, Spool
from shared.errors import TooManyUploads


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "IN_MEMORY", 100)
    monkeypatch.setattr(bodies, "MEMORY", 150)


def filled(spool: Spool, *sizes: int) -> Body:
    body = Body(spool)
    for number, size in enumerate(sizes):
        body.write(bytes([number]) * size)
    return body


def test_memory_is_bounded_for_one_body_and_for_all() -> None:
    spool = Spool(1000)
    first, large, third = filled(spool, 90), filled(spool, 60, 50), filled(spool, 50, 20)
    assert [isinstance(one.file, BytesIO) for one in (first, large, third)] == [True, False, False]
    assert (spool.in_memory, spool.used) == (90, 270)
    for body, whole in ((first, bytes(90)), (large, bytes(60) + b"\1" * 50), (third, bytes(50) + b"\1" * 20)):
        body.rewind()
        assert body.file.read() == whole
        body.close()
    assert (spool.in_memory, spool.used) == (0, 0)


def test_all_together_have_a_bound_and_closing_makes_room() -> None:
    spool = Spool(200)
    first, second = filled(spool, 150), filled(spool, 40)
    with pytest.raises(TooManyUploads):
        second.write(bytes(20))
    first.close()
    second.write(bytes(20))
    second.close()
    second.close()
    assert (spool.in_memory, spool.used) == (0, 0)


def test_a_full_disk_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> BytesIO:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bodies, "TemporaryFile", full)
    body = filled(Spool(1000), 90)
    with pytest.raises(TooManyUploads):
        body.write(bytes(20))
    body.close()
