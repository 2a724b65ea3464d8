"""The modules that a process loads, and the commands of the README."""

from __future__ import annotations

import re
import subprocess
import sys

from shared import ROOT


def test_the_web_process_never_loads_tensorflow_or_numpy() -> None:
    script = (
        "import sys; import producer.web.app; from shared.settings import Settings; from shared.store import *\n"
        "from tests.pictures import seven; from tests.served import site\n"
        "settings = Settings.from_env()\n"
        "with site(Store(connect(settings.redis_url), settings)) as web:\n"
        "    web.get('/'); web.post('/v1/predictions', data=seven()); web.get('/healthz')\n"
        "print(sorted({'tensorflow', 'numpy', 'keras', 'rq'} & set(sys.modules)))"
    )
    env = {"REDIS_URL": "unix:///nowhere/redis.sock", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_the_commands_of_the_readme_exist() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    help_text = subprocess.run(
        [sys.executable, "-m", "digitq", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in set(re.findall(r"^make ([a-z-]+)", readme, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for command in set(re.findall(r"digitq ([a-z]+)(?= |`|$)", readme)) & set(re.findall(r"`digitq ([a-z]+)", readme)):
        assert re.search(rf"^  {command} ", help_text, re.MULTILINE), f"digitq {command}"
