"""What the README and docs/own-model.md say of ``medrobust.evaluate``, run and counted."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import medrobust
import numpy as np
from medrobust.attacks.hopskipjump import Spec
from medrobust.evaluation.own_model_result import Evaluation

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/own-model.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def without_numbers(text: str) -> str:
    return " ".join(re.sub(r"\d[\d,.e-]*\d|\d", "#", text).split())


def test_the_example_of_the_readme_runs_and_prints_what_it_shows():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Your own model") :]
    section = section[: section.index("\n## ", 3)]
    (code,), (shown,) = blocks(section, "python"), blocks(section, "text")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts")},
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    # Another processor trains another network: the words are compared.
    assert without_numbers(done.stdout) == without_numbers(shown)
    accuracy = float(re.search(r"clean accuracy +([\d.]+)", done.stdout)[1])
    distances = [float(found) for found in re.findall(r"distance, L2 +([\d.]+)", done.stdout)]
    assert accuracy > 0.9 and len(distances) == 2 and all(0.05 < d < 0.5 for d in distances)


def test_the_example_of_the_page_runs(capsys):
    import torch

    torch.manual_seed(0)
    x = np.random.default_rng(0).uniform(size=(12, 5)).astype(np.float32)
    names = {"model": torch.nn.Linear(5, 3), "x": x, "y": np.arange(12) % 3}
    (code,) = blocks(PAGE, "python")
    exec(code, names)
    assert list(names["result"].robust_accuracy) == [0.01, 0.05, 0.1]
    assert "robust accuracy" in capsys.readouterr().out


def test_arguments_and_fields_are_those_of_the_page():
    given, back = PAGE[PAGE.index("## What is given") :], PAGE[PAGE.index("## What comes back") :]
    first = [re.findall(r"^\| (`.*?) \|", part, re.MULTILINE) for part in (given, back)]
    arguments, fields = (re.findall(r"`(\w+)`", " ".join(cells)) for cells in first)
    signature = list(inspect.signature(medrobust.evaluate).parameters)
    assert arguments[: len(signature)] == signature
    public = {field.name for field in dataclasses.fields(Evaluation)}
    public |= {name for name, of in vars(Evaluation).items() if isinstance(of, property)} - {"n"}
    assert public == set(fields)


def test_the_cost_of_the_published_attack_is_told():
    for settings in ({}, {"max_iter": 20, "restarts": 1}):
        queries = Spec(**settings).expected_queries()
        told = [int(n.replace(",", "")) for n in re.findall(r"some (\d[\d,]*\d)", PAGE)]
        assert any(abs(number - queries) < 0.01 * queries for number in told)
