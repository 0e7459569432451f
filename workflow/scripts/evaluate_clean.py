"""Predicts the clean test points; see medrobust.jobs.evaluate.evaluate_clean."""

from pathlib import Path

from medrobust_adapter import run

run(
    snakemake,
    "evaluate_clean",
    data=str(Path(snakemake.input.x).parent),
    members=list(snakemake.input.members),
    predictions=snakemake.output.predictions,
    summary=snakemake.output.summary,
    model=snakemake.params.model,
    device=snakemake.config.get("device", "auto"),
    compute_threads=snakemake.params.compute_threads,
)
