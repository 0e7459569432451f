"""Attacks a chunk of points; see medrobust.jobs.attack.attack_chunk."""

from pathlib import Path

from medrobust_adapter import run

run(
    snakemake,
    "attack_chunk",
    data=str(Path(snakemake.input.x).parent),
    members=list(snakemake.input.members),
    cohort=snakemake.input.cohort,
    records=snakemake.output.records,
    arrays=snakemake.output.arrays,
    timing=snakemake.output.timing,
    model=snakemake.params.model,
    attack=snakemake.params.attack,
    points=snakemake.params.points,
    names=snakemake.params.names,
    seed=snakemake.params.seed,
    device=snakemake.config.get("device", "auto"),
    compute_threads=snakemake.params.compute_threads,
    code=snakemake.params.code,
    progress_dir=snakemake.params.progress_dir,
)
