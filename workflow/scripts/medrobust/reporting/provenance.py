"""Where an artefact comes from: the run's facts, with the machine that drew it.

On what the attacks and the training ran stands beside their results (``made_with.json``, the
members' cards), because it can be another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrobust.core.machine import (
    commit,
    hardware,
    in_environment_of_snakemake,
    snakemake_command,
    versions,
)
from medrobust.reporting.artefacts import RunContext


def run_context(run: Mapping[str, Any], study: str) -> RunContext:
    """Returns the context that every artefact of a run states.

    Args:
        run: ``scale, protocol, run, seed, config_hash, command, unlike_the_paper, drawn_from`` as
            the workflow knows them; ``command`` stands behind ``snakemake`` and its options.
        study: name of the study.
    """
    # The command that works where this works: not every machine has conda.
    command = f"{snakemake_command(in_environment_of_snakemake())} {run['command']}"
    here = {"commit": commit(), "versions": versions(), "hardware": hardware()}
    return RunContext(study=study, **here, **{**run, "command": command})
