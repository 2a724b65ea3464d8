"""The deployment files, as far as they can be read without an engine: `make compose-test` runs them on one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from shared.home import ROOT
from shared.settings import Settings

FILES = sorted(ROOT.glob("docker-compose*.yml"))


def services() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in FILES:
        for name, service in yaml.safe_load(file.read_text())["services"].items():
            yield f"{file.name}:{name}", service


SERVICES = dict(services())
MAIN = [name for name in SERVICES if name.startswith("docker-compose.yml:")]


@pytest.mark.parametrize("name", MAIN)
def test_the_main_file_is_one_that_swarm_takes_too(name: str) -> None:
    service = SERVICES[name]
    assert not {"profiles", "container_name", "tmpfs"} & set(service)
    assert isinstance(service.get("depends_on", []), list)


@pytest.mark.parametrize("name", [name for name in SERVICES if SERVICES[name].get("image", "").find("digitq-") >= 0])
def test_our_containers_get_only_settings_that_exist(name: str) -> None:
    given = SERVICES[name].get("environment", {})
    Settings.from_env({key: str(value) for key, value in given.items() if "${" not in str(value)})


@pytest.mark.parametrize("part", ["web", "worker"])
def test_our_containers_may_write_nothing_but_tmp_and_gain_nothing(part: str) -> None:
    service = SERVICES[f"docker-compose.yml:{part}"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "USER 10001" in (ROOT / f"Dockerfile.{part}").read_text()


def test_the_gpu_image_has_the_tensorflow_that_the_others_have() -> None:
    wanted = SERVICES["docker-compose.gpu.yml:worker"]["build"]["args"]["TENSORFLOW"].rpartition("==")[2]
    pins = [
        line for line in (ROOT / "worker/requirements.txt").read_text().splitlines() if line.startswith("tensorflow")
    ]
    assert pins and all(f"=={wanted};" in line for line in pins)
