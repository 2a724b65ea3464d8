"""The deployment files, as far as they can be read without an engine: `make compose-test` runs them on one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from shared import ROOT
from shared.settings import Settings
from worker.cli import promote

FILES = [ROOT / "docker-compose.yml", *sorted(ROOT.glob("deploy/docker-compose*.yml"))]


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


#: Grafana writes where its plugins are.
WRITES = {"docker-compose.observe.yml:grafana"}
#: What a further file changes of a service of the main one.
CHANGES = [name for name in SERVICES if name not in MAIN and f"docker-compose.yml:{name.partition(':')[2]}" in MAIN]


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in CHANGES])
def test_containers_may_write_nothing_but_their_volumes_and_gain_nothing(name: str) -> None:
    service = SERVICES[name]
    assert (service.get("read_only") is True) == (name not in WRITES) and service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add"} & set(service)


def test_no_container_of_the_main_file_begins_as_root() -> None:
    assert SERVICES["docker-compose.yml:redis"]["user"] == "redis"
    for part in ("web", "worker"):
        assert "USER 10001" in (ROOT / f"Dockerfile.{part}").read_text()


def test_workers_read_the_model_that_the_volume_holds_and_only_promotions_write_it() -> None:
    worker, model = (SERVICES[f"docker-compose.models.yml:{name}"] for name in ("worker", "model"))
    assert worker["environment"] == model["environment"] == {"DIGITQ_MODEL_PATH": "/models/current"}
    assert worker["volumes"] == ["models:/models:ro"] and "models:/models" in model["volumes"]
    assert worker["depends_on"] == {"model": {"condition": "service_completed_successfully"}}
    assert model["image"] == SERVICES["docker-compose.yml:worker"]["image"]
    assert "install -d -o 10001 -g 10001 /models" in (ROOT / "Dockerfile.worker").read_text()
    # What `docker compose run` and `up` call.
    assert model["entrypoint"] == ["python", "-m", "digitq", "promote"]
    assert {option for one in promote.params for option in one.opts} >= {"--initial", "--previous"}
    assert model["command"] == ["--initial", "worker/model"] and (ROOT / "worker/model/card.json").exists()


def test_the_gpu_image_has_the_tensorflow_that_the_others_have() -> None:
    wanted = SERVICES["docker-compose.gpu.yml:worker"]["build"]["args"]["TENSORFLOW"].rpartition("==")[2]
    pins = [
        line for line in (ROOT / "worker/requirements.txt").read_text().splitlines() if line.startswith("tensorflow")
    ]
    assert pins and all(f"=={wanted};" in line for line in pins)
