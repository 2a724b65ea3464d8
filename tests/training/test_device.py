"""Selection of the device, tested without a GPU; and that a sound GPU passes the golden self-test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import ModelError
from shared.settings import SHIPPED_MODEL
from worker.inference import golden, mlp
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp, Reading, configure_device, device_in_use


class Machine:
    """TensorFlow's configuration, with that many GPUs."""

    def __init__(self, gpus: int) -> None:
        self.gpus = [f"GPU:{n}" for n in range(gpus)]
        self.visible, self.growing = self.gpus, list[str]()
        self.config = self.experimental = self

    def list_physical_devices(self, kind: str) -> list[str]:
        return self.gpus if kind == "GPU" else ["CPU:0"]

    def set_visible_devices(self, devices: list[str], kind: str) -> None:
        assert kind == "GPU"
        self.visible = devices

    def get_visible_devices(self, kind: str) -> list[str]:
        return self.visible if kind == "GPU" else ["CPU:0"]

    def set_memory_growth(self, gpu: str, enable: bool) -> None:
        self.growing += [gpu] * enable


@pytest.mark.parametrize(
    ("setting", "gpus", "used", "growing"),
    [
        ("auto", 0, "cpu", 0),
        ("auto", 2, "gpu", 2),  # each takes memory as it needs it, so that workers can share it
        ("gpu", 1, "gpu", 1),
        ("cpu", 0, "cpu", 0),
        ("cpu", 2, "cpu", 0),  # hidden: another program may have them whole
    ],
)
def test_a_worker_takes_the_device_that_the_setting_names(
    setting: str, gpus: int, used: str, growing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(gpus)
    monkeypatch.setattr(mlp, "tensorflow", lambda: machine)
    configure_device(setting)
    assert device_in_use() == used
    assert machine.growing == machine.gpus[:growing]


def test_who_insists_on_a_gpu_does_not_get_a_cpu_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp, "tensorflow", lambda: Machine(0))
    with pytest.raises(ModelError, match="DIGITQ_DEVICE=gpu"):
        configure_device("gpu")


def tf32(values: Any) -> NDArray[np.float32]:
    """Rounded as a GPU's matrix units read them: 10 bits of mantissa of float32's 23, to the nearest."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


class Rounded:
    """A model whose weights and pixels are rounded."""

    def __init__(self, model: Mlp, round: Any) -> None:
        self.card, self.version, self._read, self._round = model.card, model.version, model.read, round
        for variable in model._model.probabilities.concrete_functions[0].variables:
            variable.assign(round(variable.numpy()))

    def read(self, pixels: NDArray[np.float32]) -> Reading:
        return self._read(self._round(pixels))

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.read(pixels).probabilities


def test_the_golden_gate_lets_the_precision_of_a_gpu_through_and_no_worse_one() -> None:
    golden.check(Classifier(Rounded(Mlp.load(SHIPPED_MODEL), tf32), 10**6), SHIPPED_MODEL)
    coarse = Rounded(Mlp.load(SHIPPED_MODEL), lambda values: np.round(np.asarray(values) * 16) / np.float32(16))
    with pytest.raises(ModelError, match="golden self-test failed"):
        golden.check(Classifier(coarse, 10**6), SHIPPED_MODEL)
