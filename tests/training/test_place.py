"""Puts models into the directory that serving loads: the one before is kept, and nothing else is touched."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ModelError
from shared.settings import SHIPPED_MODEL, Settings
from tests.models import SEED, copied
from worker.inference.mlp import CARD, checked_card
from worker.training.artefact import place
from worker.training.artefact.place import EXCHANGE, card_in, exchange, install, previous, put, restore


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """Three models by version; they read alike."""
    return {name: copied(SEED, tmp_path / "models" / name, version=name) for name in ("one", "two", "three")}


@pytest.fixture
def served(tmp_path: Path) -> Path:
    return tmp_path / "served" / "model"


@pytest.fixture
def settings(served: Path) -> Settings:
    return replace(Settings(), model_path=served)


def versions(served: Path) -> list[str]:
    """The versions at the place and of the previous one; all else that is there."""
    kept = [str(checked_card(path)["version"]) for path in (served, previous(served)) if path.exists()]
    return kept + sorted({path.name for path in served.parent.iterdir()} - {served.name, previous(served).name})


def test_each_promotion_keeps_the_model_before_it(models: dict[str, Path], served: Path, settings: Settings) -> None:
    for name, kept in {"one": [], "two": ["one"], "three": ["two"]}.items():
        assert install(models[name], served, settings) == served
        assert versions(served) == [name, *kept]
    assert versions(models["one"].parent / "one")[0] == "one"  # a copy went there


def test_the_previous_model_comes_back_and_goes_again(
    models: dict[str, Path], served: Path, settings: Settings
) -> None:
    install(models["one"], served, settings)
    install(models["two"], served, settings)
    restore(served, settings)
    assert versions(served) == ["one", "two"]
    restore(served, settings)
    assert versions(served) == ["two", "one"]


@pytest.fixture
def left_by_a_kill(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies of the folder of models as each change on the disk finds it: what a kill there leaves."""
    found: list[Path] = []

    def watched(change: Callable[..., Any]) -> Callable[..., Any]:
        def first(*words: Any, **options: Any) -> Any:
            found.append(Path(copytree(served.parent, tmp_path / f"left-{len(found)}")))
            return change(*words, **options)

        return first

    copytree = shutil.copytree
    for owner, name in ((place, "exchange"), (Path, "rename"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    return found


def test_a_promotion_that_is_killed_anywhere_leaves_a_whole_model_in_place(
    models: dict[str, Path], served: Path, left_by_a_kill: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models["one"], served)
    for name in ("two", "three"):
        put(models[name], served, keep=True)
    monkeypatch.undo()
    left = [versions(folder / served.name) for folder in left_by_a_kill]
    assert [one[0] for one in left] == ["one", "two", "two", "two", "three", "three"]
    for folder in left_by_a_kill:
        put(copied(SEED, folder / "again", version="again"), folder / served.name, keep=True)
        assert versions(folder / served.name)[0] == "again"


def test_where_two_models_cannot_change_places_at_once_they_do_in_moves(
    models: dict[str, Path], served: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "EXCHANGE", 1 << 20)  # the kernel knows no such flag
    test_each_promotion_keeps_the_model_before_it(models, served, settings)
    put(models["one"], served)
    assert versions(served) == ["one", "two"]


def test_without_a_previous_model_nothing_can_be_put_back(
    models: dict[str, Path], served: Path, settings: Settings
) -> None:
    install(models["one"], served, settings)
    with pytest.raises(ModelError, match=r"has no previous model: there is none in .*model\.previous"):
        restore(served, settings)
    assert versions(served) == ["one"]


def test_the_model_that_is_there_already_is_not_its_own_previous_one(
    models: dict[str, Path], served: Path, settings: Settings
) -> None:
    install(models["one"], served, settings)
    install(models["two"], served, settings)
    before = (served / CARD).stat().st_ino
    install(models["two"], served, settings)
    install(served, served, settings)
    assert versions(served) == ["two", "one"]
    assert (served / CARD).stat().st_ino == before


def test_a_model_that_does_not_serve_changes_nothing(models: dict[str, Path], served: Path, settings: Settings) -> None:
    install(models["one"], served, settings)
    (models["two"] / "variables" / "variables.index").unlink()
    with pytest.raises(ModelError, match="two has SHA-256"):
        install(models["two"], served, settings)
    with pytest.raises(ModelError, match=r"cannot be read"):
        install(served.parent, served, settings)
    assert versions(served) == ["one"]


def test_a_copy_that_is_not_whole_is_not_put_into_place(
    models: dict[str, Path], served: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(models["one"], served, settings)
    copytree = shutil.copytree

    def losing(source: Path, target: Path, *more: Any, **options: Any) -> None:
        copytree(source, target, *more, **options)
        (Path(target) / "fingerprint.pb").unlink(missing_ok=True)

    monkeypatch.setattr(place.shutil, "copytree", losing)
    with pytest.raises(ModelError, match=r"model\.part has SHA-256"):
        install(models["two"], served, settings)
    assert versions(served) == ["one"]


def test_what_is_left_of_a_copy_that_was_broken_off_is_in_nobodys_way(
    models: dict[str, Path], served: Path, settings: Settings
) -> None:
    copied(SEED, served.with_name("model.part"), version="half")
    install(models["one"], served, settings)
    assert versions(served) == ["one"]


def test_a_model_that_knows_no_nondigits_does_not_replace_one_that_does(served: Path, settings: Settings) -> None:
    install(SHIPPED_MODEL, served, settings)
    with pytest.raises(ModelError, match=r"takes everything for a digit.*--force"):
        install(SEED, served, settings)
    assert versions(served) == [card_in(SHIPPED_MODEL)["version"]]
    install(SEED, served, settings, force=True)
    assert versions(served)[0] == "seed-1"
    install(SHIPPED_MODEL, served, settings)
    assert versions(served)[1] == "seed-1"


def test_a_damaged_model_is_replaced_by_any(models: dict[str, Path], served: Path, settings: Settings) -> None:
    install(SHIPPED_MODEL, served, settings)
    (served / "saved_model.pb").write_bytes(b"")
    install(models["one"], served, settings)
    assert checked_card(served)["version"] == "one"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_place_that_holds_something_else_is_left_alone(
    kind: str, models: dict[str, Path], served: Path, settings: Settings
) -> None:
    thesis = served if kind == "file" else served / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    with pytest.raises(ModelError, match="holds no model"):
        install(models["one"], served, settings, force=True)
    assert thesis.read_text() == "years of work"


def test_an_empty_folder_is_free_and_no_previous_model(
    models: dict[str, Path], served: Path, settings: Settings
) -> None:
    served.mkdir(parents=True)
    install(models["one"], served, settings)
    assert versions(served) == ["one"]


@pytest.mark.parametrize("step", ["mkdir", "copytree", "exchange"])
def test_a_place_that_cannot_be_written_is_named_with_what_to_do(
    step: str, models: dict[str, Path], served: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(models["one"], served, settings)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr({"mkdir": Path, "copytree": shutil, "exchange": place}[step], step, refuse)
        with pytest.raises(ModelError, match=r"cannot be replaced \(Read-only file system\).*volume.*deploy/README"):
            install(models["two"], served, settings)
    assert versions(served) == ["one"]


def test_an_exchange_with_what_is_not_there_is_an_error(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"one.*none"):
        exchange(models["one"], tmp_path / "none")


@pytest.mark.parametrize("flag", [EXCHANGE, 1 << 20], ids=["at once", "in moves"])
def test_a_move_that_fails_leaves_all_models_where_they_were(
    flag: int, models: dict[str, Path], served: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(models["one"], served, settings)
    install(models["two"], served, settings)
    monkeypatch.setattr(place, "EXCHANGE", flag)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self == models["three"]:
            raise OSError("no")
        return rename(self, target)

    def refused(one: Path, other: Path) -> None:
        if other == previous(served):
            raise OSError("no")
        exchange(one, other)

    if flag == EXCHANGE:
        monkeypatch.setattr(place, "exchange", refused)
    else:
        monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no"):
        put(models["three"], served, keep=True)
    assert versions(served) == ["two", "one"]
    assert versions(models["three"])[0] == "three"


def test_a_model_of_a_training_run_replaces_the_one_before_without_keeping_it(
    models: dict[str, Path], served: Path, settings: Settings
) -> None:
    install(models["one"], served, settings)
    put(models["two"], served)
    assert versions(served) == ["two"]


def test_a_model_that_is_put_into_place_is_seen_to_be_new(models: dict[str, Path], served: Path) -> None:
    served.parent.mkdir()
    os.utime(models["one"] / CARD, (1, 1))
    put(models["one"], served)
    assert (served / CARD).stat().st_mtime > 1
