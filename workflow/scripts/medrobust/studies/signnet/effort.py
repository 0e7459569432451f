"""What restarts and queries of the attack gain, for the models of the sign-network paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medrobust.reporting.attack_runs import AttackFiles
from medrobust.reporting.convergence import build_convergence
from medrobust.reporting.effort_table import build_effort
from medrobust.reporting.request import Request
from medrobust.studies.signnet.results import (
    attack_inputs,
    attack_text,
    cells_by_part,
    grouped,
    heading,
    remark,
    sources_of,
)


def _attack_files(request: Request) -> list[AttackFiles]:
    """Returns the files of every attacked model, the paper's data sets and models first."""
    inputs = attack_inputs(request)
    groups, sources = grouped(inputs), sources_of(inputs)
    return [
        AttackFiles(
            heading(key[0]),
            key[1],
            sources[key[0]],
            [i.chunks for i in groups[key]],
            [i.arrays for i in groups[key]],
        )
        for key in cells_by_part(groups)
        if key in groups
    ]


def _on_effort(request: Request, build: Callable[..., list[Path]]) -> list[Path]:
    files = _attack_files(request)
    remarks = dict.fromkeys(remark(one.dataset, one.source) for one in files)
    return build(
        files,
        request.out_stem,
        request.context,
        attack_text(request),
        norm=request.attack.get("norm", 2),
        notes=[f"{text}." for text in remarks if text],
    )


def draw_convergence(request: Request) -> list[Path]:
    return _on_effort(request, build_convergence)


def draw_effort(request: Request) -> list[Path]:
    return _on_effort(request, build_effort)
