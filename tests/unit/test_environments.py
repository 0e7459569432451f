"""Conda environments against what the code of their rules imports, pins, and dependencies.

For each rule with a script, the functions that its job can reach are followed through the
syntax trees, imports inside functions included, and the third-party packages found are held
against the environment that the rule names. Jobs of one module may have different
environments, so the unit is a function or class, not a module.

What a package is called on its conda channel, and which version was seen there, stands with its
evidence in ``envs/packages.csv``: no test here knows a conda name of its own.
"""

from __future__ import annotations

import ast
import csv
import functools
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest
import yaml
from medrobust.core.registry import ADAPTERS, ARCHITECTURES, ATTACKS, METHODS
from medrobust.experiment.catalogue import artefacts_of, parts_of, studies_with_parts
from medrobust.jobs import JOBS
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests import registered

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "workflow/scripts"

#: Import name -> name on PyPI, where they differ.
PYPI = {
    "art": "adversarial-robustness-toolbox",
    "markdown_it": "markdown-it-py",
    "kagglesdk": "kaggle",  # the part of Kaggle's client that is imported
    "pydantic_core": "pydantic",  # always its companion
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "urllib3": "requests",  # always its companion
    "PIL": "pillow",
    "yaml": "pyyaml",
}
with open(ROOT / "envs/packages.csv", encoding="utf-8", newline="") as table:
    #: What was seen on the conda channels, by the name there.
    SEEN = {row["conda"]: row for row in csv.DictReader(table)}
CONDA = {row["pypi"]: name for name, row in SEEN.items()}


def module_of_place(place: str) -> str:
    return place.split(":")[0]


def of_pixels(known: Mapping[str, str]) -> list[str]:
    return [module for name, module in known.items() if name in registered.PIXELS]


def of_points(known: Mapping[str, str]) -> list[str]:
    return list(registered.of_points(known).values())


#: Modules that rules reach by name through a registry: all their contents count.
BY_NAME: dict[str, Iterable[str]] = {
    "prepare": ADAPTERS.values(),
    "prepare_volumes": ADAPTERS.values(),
    "train": [*of_points(ARCHITECTURES), *of_points(METHODS)],
    "evaluate_clean": of_points(ARCHITECTURES),
    "attack": [*of_points(ARCHITECTURES), *of_points(ATTACKS)],
    "train_pixels": [*of_pixels(ARCHITECTURES), *of_pixels(METHODS)],
    "attack_pixels": [*of_pixels(ARCHITECTURES), *of_pixels(ATTACKS)],
    "check_published": [
        module_of_place(parts_of(study).printed_averages)
        for study in studies_with_parts()
        if parts_of(study).printed_averages
    ],
    "compare": [
        module_of_place(parts_of(study).remark)
        for study in studies_with_parts()
        if parts_of(study).remark
    ],
    **{
        f"{study}_{name}": [module_of_place(artefact.draw)]
        for study in studies_with_parts()
        for name, artefact in artefacts_of(study).items()
    },
}
#: The only places that import a module whose name is not in the source.
DYNAMIC = {
    ("medrobust.jobs", "job_named"),
    ("medrobust.reporting.catalogue", "function_of"),
    ("medrobust.experiment.catalogue", "parts_of"),
    ("medrobust.core.registry", "module_of"),
}
#: Packages that pandas imports for what these functions ask of it.
IMPLIED = {
    ("medrobust.core.io", "read_table"): "pyarrow",
    ("medrobust.core.io", "write_table"): "pyarrow",
}

#: What pip needs to install nnU-Net beside conda's PyTorch.
FOR_PIP = {"pip", "torchvision"}

#: What a package imports without declaring it.
UNDECLARED = {"art": {"packaging"}}

Place = tuple[str, str]  # module, definition ("" is the module's top level)


# --- what code can reach ----------------------------------------------------------------


@dataclass
class Found:
    """What a piece of code imports and names: aliases, third-party packages, places."""

    aliases: dict[str, Place] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    places: set[Place] = field(default_factory=set)


@dataclass(frozen=True)
class Module:
    """A module's definitions and what its top level does."""

    definitions: dict[str, ast.AST]
    top: Found


def file_of(module: str) -> Path | None:
    path = SCRIPTS.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def walk_run(node: ast.AST) -> Iterator[ast.AST]:
    """Walks what is executed: neither annotations nor the blocks under TYPE_CHECKING."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if isinstance(child, ast.AST) and not typing_only:
                yield from walk_run(child)


def scan(nodes: Iterable[ast.AST], module: str, outer: Found | None, own: Iterable[str]) -> Found:
    """Collects the imports of ``nodes`` and the places they name."""
    found = Found(dict(outer.aliases) if outer else {})
    walked = [node for top in nodes for node in walk_run(top)]
    for node in walked:
        if isinstance(node, ast.Import):
            for alias in node.names:
                record(found, alias.name, None, alias.asname or alias.name.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                record(found, str(node.module), alias.name, alias.asname or alias.name)
    for node in walked:
        if isinstance(node, ast.Name) and node.id in own:
            found.places.add((module, node.id))
        elif isinstance(node, ast.Name) and found.aliases.get(node.id, ("", ""))[1]:
            found.places.add(found.aliases[node.id])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            target = found.aliases.get(node.value.id)
            if target and not target[1]:
                found.places.add((target[0], node.attr))
    return found


def record(found: Found, module: str, name: str | None, alias: str) -> None:
    root = module.split(".")[0]
    if file_of(root) is None:
        if root not in sys.stdlib_module_names:
            found.packages.add(root)
        return
    if name is not None and file_of(f"{module}.{name}"):
        module, name = f"{module}.{name}", None
    assert file_of(module), f"{module} does not exist"
    found.places.add((module, ""))
    found.aliases[alias] = (module, name or "")


@functools.cache
def read(module: str) -> Module:
    body = ast.parse(file_of(module).read_text(encoding="utf-8")).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    definitions = {node.name: node for node in body if isinstance(node, kinds)}
    # To name functions in the object that a registered module ends with does not call them.
    definitions |= {
        node.targets[0].id: node
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if node.targets[0].id in ("ARCHITECTURE", "METHOD", "ATTACK", "ADAPTER")
    }
    # The test of each statement alone would let a top-level TYPE_CHECKING block through.
    rest = ast.Module([node for node in body if node not in definitions.values()], [])
    return Module(definitions, scan([rest], module, None, definitions))


def whole(module: str) -> set[Place]:
    return {(module, name) for name in ("", *read(module).definitions)}


def reach(start: Iterable[Place]) -> tuple[set[Place], set[str]]:
    """Returns every place that code at ``start`` can reach, and the packages imported there."""
    places: set[Place] = set()
    packages: set[str] = set()
    waiting = list(start)
    while waiting:
        place = waiting.pop()
        if place in places:
            continue
        places.add(place)
        module, name = place
        if place in IMPLIED:
            packages.add(IMPLIED[place])
        if not name:
            found = read(module).top
            # Importing a module imports the packages that hold it.
            parts = module.split(".")
            waiting += [(".".join(parts[:i]), "") for i in range(1, len(parts))]
        elif name in read(module).definitions:
            code = read(module)
            found = scan([code.definitions[name]], module, code.top, code.definitions)
            waiting.append((module, ""))
        elif read(module).top.aliases.get(name, ("", ""))[1]:
            waiting.append(read(module).top.aliases[name])
            continue
        else:
            continue
        packages |= found.packages.union(*(UNDECLARED.get(name, ()) for name in found.packages))
        waiting += found.places
    return places, packages


# --- rules and environments -------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    name: str
    environment: str
    job: str


def rules() -> dict[str, Rule]:
    """Returns every rule that runs a script; those that a loop makes of one form, once each."""
    found = {}
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        text = file.read_text(encoding="utf-8")
        parts = re.split(r"^\s*(?:rule|checkpoint)(?: (\w+))?:", text, flags=re.M)
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            script = re.search(r"script:\s*RUN_JOB\n", body)
            conda = re.search(r"conda:\s*\"\.\./\.\./envs/(\w+)\.yaml\"", body)
            job = re.search(r"\*\*params_of\(\"(\w+)\"\)", body)
            assert bool(script) == ("script:" in body), f"rule {name}: script not understood"
            if script:
                assert conda, f"rule {name} runs a script without an environment"
                if job:
                    found[name or job[1]] = Rule(name or job[1], conda[1], job[1])
                else:
                    assert file.stem == "artefacts", f"rule {name} names no job"
                    found |= artefact_rules(conda[1])
    return found


def artefact_rules(conda: str) -> dict[str, Rule]:
    """Returns the rules that artefacts.smk makes in a loop, all of one form."""
    names = [f"{study}_{name}" for study in studies_with_parts() for name in artefacts_of(study)]
    return {name: Rule(name, conda, "build_artefact") for name in names}


def starts_of(rule: Rule) -> set[Place]:
    """Returns where the code of a rule begins: script, job, and modules chosen by name."""
    assert rule.job in read(JOBS[rule.job]).definitions
    starts = whole("run_job") | {(JOBS[rule.job], rule.job)}
    return starts.union(*(whole(module) for module in BY_NAME.get(rule.name, ())))


def starts_of_snakefile(*, report: bool) -> set[Place]:
    """Returns what parsing the workflow uses of the library, registered settings included.

    With ``report`` also what is imported when the report is made, by the workflow itself.
    """
    text = "\n".join(
        file.read_text(encoding="utf-8")
        for file in [ROOT / "workflow/Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    )
    pattern = r"(from medrobust[\w.]* import (?:\([^)]*\)|.*))$"
    found = re.findall(("^ *" if report else "^") + pattern, text, flags=re.M)
    imports = [" ".join(one.split()) for one in found]
    used = sorted(set(re.findall(r"\b[A-Za-z_]+\.[A-Za-z_]+\b|\b[A-Za-z_]{3,}(?=\()", text)))
    names = [name for name in used if not set(name.split(".")) & {"import", "def", "lambda"}]
    found = scan([ast.parse("\n".join(imports + names))], "Snakefile", None, ())
    modules = [*ARCHITECTURES.values(), *METHODS.values(), *ATTACKS.values()]
    return found.places | {(module, name) for module in modules for name in ("", "Spec")}


def environment(name: str) -> dict[str, str]:
    """Returns package -> version range of an environment."""
    content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text(encoding="utf-8"))
    lines = [line for line in content["dependencies"] if isinstance(line, str)]
    parts = [line.split(" ", 1) for line in lines]
    assert all(len(part) == 2 for part in parts), f"{name}.yaml: a package has no range"
    return dict(parts)


def by_pip(name: str) -> set[str]:
    """Returns the packages of an environment that pip installs."""
    content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text(encoding="utf-8"))
    sections = [line for line in content["dependencies"] if isinstance(line, dict)]
    return names(need for section in sections for need in section["pip"])


def conda_names(packages: Iterable[str]) -> set[str]:
    names = {PYPI.get(name, name) for name in packages}
    assert names <= set(CONDA), f"envs/packages.csv lacks {sorted(names - set(CONDA))}"
    return {CONDA[name] for name in names}


def requirements(file: str) -> list[Requirement]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def names(needs: Iterable[str | Requirement]) -> set[str]:
    return {Requirement(str(need)).name.lower() for need in needs}


def pins() -> dict[str, str]:
    """Returns package -> version of both lists of requirements."""
    versions = {}
    files = [f"requirements{kind}.txt" for kind in ("", "-segmentation", "-dev")]
    for need in [need for file in files for need in requirements(file)]:
        (pin,) = need.specifier
        assert pin.operator == "==", f"{need} is no pin"
        versions[need.name.lower()] = pin.version
    return versions


RULES = rules()
ENVIRONMENTS = sorted(path.stem for path in (ROOT / "envs").glob("*.yaml"))


def test_every_rule_with_a_script_is_understood():
    assert {"fetch", "prepare", "train", "attack", "compare", "signnet_figure2"} <= set(RULES)
    assert set(BY_NAME) <= set(RULES)
    assert {rule.environment for rule in RULES.values()} | {"driver"} == set(ENVIRONMENTS)
    reached = set().union(*(reach(starts_of(rule))[0] for rule in RULES.values()))
    missed = [job for job, module in JOBS.items() if (module, job) not in reached]
    assert not missed, "jobs that no rule runs"


def test_reaching_tells_apart_the_jobs_of_one_module():
    # Both are in one module; only one of them needs torch and ART.
    assert "torch" in reach(starts_of(RULES["attack"]))[1]
    assert "art" in reach(starts_of(RULES["attack"]))[1]
    assert not {"torch", "art"} & reach(starts_of(RULES["gather_records"]))[1]
    # Lazy, in a helper of a helper.
    assert "wfdb" in reach(starts_of(RULES["prepare"]))[1]
    assert "matplotlib" in reach(starts_of(RULES["signnet_figure2"]))[1]


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rules_environment_has_what_its_code_imports(name):
    here = RULES[name].environment
    needed = conda_names(reach(starts_of(RULES[name]))[1] - by_pip(here))
    missing = needed - set(environment(here))
    assert not missing, f"envs/{here}.yaml lacks {sorted(missing)}"


def test_pip_installs_what_was_tested_and_no_channel_has():
    assert {name for name in ENVIRONMENTS if by_pip(name)} == {"segmentation"}
    # nnU-Net, and what makes its batches and networks.
    packages = {"nnunetv2", "batchgeneratorsv2", "dynamic_network_architectures"}
    assert by_pip("segmentation") == packages and not packages & set(SEEN)
    text = (ROOT / "envs/segmentation.yaml").read_text(encoding="utf-8")
    assert all(f"{name} =={pins()[name]}" in text for name in packages)


def test_the_driver_has_what_the_snakefile_imports():
    needed = conda_names(reach(starts_of_snakefile(report=False))[1])
    assert {"numpy", "pydantic", "pyyaml"} <= needed
    for_report = conda_names(reach(starts_of_snakefile(report=True))[1])
    assert {"pandas"} | needed <= for_report
    assert for_report <= set(environment("driver")), for_report - set(environment("driver"))
    # Every job of a cluster parses the Snakefile again, in whatever environment.
    assert not needed & {"pytorch", "pandas", "matplotlib-base"}


@pytest.mark.parametrize("name", sorted(set(ENVIRONMENTS) - {"driver"}))
def test_an_environment_has_nothing_that_its_rules_do_not_use(name):
    used = {"python"} | (FOR_PIP if by_pip(name) else set())
    for rule in RULES.values():
        if rule.environment == name:
            used |= conda_names(reach(starts_of(rule))[1] - by_pip(name))
    assert set(environment(name)) <= used, set(environment(name)) - used


def test_modules_are_imported_by_name_only_where_this_test_knows():
    found = set()
    for path in SCRIPTS.rglob("*.py"):
        module = ".".join(path.relative_to(SCRIPTS).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        for name, node in read(module).definitions.items():
            if re.search(r"'(import_module|__import__)'", ast.dump(node)):
                found.add((module, name))
    assert found == DYNAMIC


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_ranges_contain_the_tested_versions(name):
    tested = pins()
    for package, versions in environment(name).items():
        allowed = SpecifierSet(versions)
        if package == "pip":
            continue
        if package == "python":
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
            assert all(
                minor in allowed and minor in SpecifierSet(project["project"]["requires-python"])
                for minor in ("3.11", "3.12", "3.13")
            )
            continue
        version = tested.get(SEEN[package]["pypi"])
        assert version, f"requirements.txt does not pin {package} of envs/{name}.yaml"
        assert version in allowed, f"{package} {version} is outside {versions}"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_packages_come_from_conda_forge(name):
    content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text(encoding="utf-8"))
    # Snakemake itself is published on bioconda; nothing that computes comes from there. And no
    # `nodefaults`, which conda 26.7.1 takes for a channel, and stops.
    more = ["bioconda"] if name == "driver" else []
    assert content["channels"] == ["conda-forge", *more]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_version_that_was_seen_on_the_channel_is_in_the_range(name):
    content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text(encoding="utf-8"))
    for package, versions in environment(name).items():
        assert package in SEEN, f"envs/packages.csv has no evidence of a conda package {package}"
        row = SEEN[package]
        assert row["channel"] in content["channels"], package
        assert row["seen"] in SpecifierSet(versions), (
            f"envs/{name}.yaml asks for {package} {versions}, and what was seen on "
            f"{row['channel']} is {row['seen']}"
        )


def test_the_table_of_seen_packages_has_evidence_for_each_and_nothing_else():
    text = (ROOT / "envs/packages.csv").read_text(encoding="utf-8").splitlines()
    assert len(SEEN) == len(CONDA) == len(text) - 1, "a name stands twice"
    assert set(SEEN) == set().union(*map(environment, ENVIRONMENTS))
    keys = [line.split(",")[0] for line in text[1:]]
    assert keys == sorted(keys)
    for name, row in SEEN.items():
        page = "(anaconda.org|github.com/(conda-forge|bioconda))"
        assert re.match(f"https://{page}/", row["where"]), name
        if row["source"] == "recipe":  # a branch moves on, a commit does not
            assert re.search(r"/blob/[0-9a-f]{40}/", row["where"]), name
        else:
            assert row["source"] == "listing" and row["channel"] in row["where"], name
        assert date.fromisoformat(row["looked"]) <= date.today(), name


def test_lower_bounds_are_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [need for group in project["optional-dependencies"].values() for need in group]
    asked = {n.name.lower(): str(n.specifier) for n in map(Requirement, project["dependencies"])}
    asked |= {n.name.lower(): str(n.specifier) for n in map(Requirement, optional)}
    for name in ENVIRONMENTS:
        for package, versions in environment(name).items():
            if package not in ("python", "pip"):
                lower = asked[SEEN[package]["pypi"]]
                assert versions.split(",")[0] == lower, f"{package} in envs/{name}.yaml"
    told = (SCRIPTS / "medrobust/data/fetching/kaggle_source.py").read_text(encoding="utf-8")
    assert re.findall(r"kaggle(>=[\d.]+)", told) == [asked["kaggle"]]


def test_project_dependencies_cover_the_library_and_contain_the_pins():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [need for group in project["optional-dependencies"].values() for need in group]
    needs = {Requirement(n).name.lower(): Requirement(n) for n in project["dependencies"]}
    modules = [
        ".".join(path.relative_to(SCRIPTS).with_suffix("").parts).removesuffix(".__init__")
        for path in (SCRIPTS / "medrobust").rglob("*.py")
    ]
    imported = reach(place for module in modules for place in whole(module))[1]
    missing = {PYPI.get(name, name) for name in imported} - set(needs)
    # For those who download from there, and for segmentation.
    assert missing <= {"kaggle", "nnunetv2", "monai"}, missing
    assert "kaggle" in {Requirement(need).name for need in optional}
    tested = pins()
    for need in [*needs.values(), *map(Requirement, optional)]:
        assert tested[need.name.lower()] in need.specifier, need


def test_what_only_tests_need_is_in_the_second_list_which_includes_the_first():
    text = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    assert text.count("-r requirements.txt") == 1
    runs, tests = (names(requirements(f"requirements{x}.txt")) for x in ("", "-dev"))
    assert not runs & tests
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tests == names(project["optional-dependencies"]["test"])
    assert names(project["dependencies"]) <= runs
    imported = set()
    for file in SCRIPTS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                found = [node.module]
            imported |= {PYPI.get(name.split(".")[0], name.split(".")[0]) for name in found}
    assert "torch" in imported and not imported & tests


def test_the_oldest_snakemake_is_the_same_wherever_it_is_said():
    """9.18.2 stops at profiles/default, 9.19.0 plans a run (tried by hand with both)."""
    said = re.search(r'min_version\("([\d.]+)"\)', (ROOT / "workflow/Snakefile").read_text())[1]
    driver = yaml.safe_load((ROOT / "envs/driver.yaml").read_text())["dependencies"]
    (conda,) = [line for line in driver if str(line).startswith("snakemake ")]
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pip,) = extra["optional-dependencies"]["workflow"]
    for text in (conda, pip):
        assert re.search(r">=([\d.]+)", text)[1] == said
