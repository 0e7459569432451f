"""Trains members of a model; see medrobust.jobs.train.train_members."""

from pathlib import Path

from medrobust_adapter import run

run(
    snakemake,
    "train_members",
    data=str(Path(snakemake.input.x).parent),
    out=snakemake.output.members,
    card=snakemake.output.card,
    timing=snakemake.output.timing,
    extras=snakemake.output.extras,
    training_points=snakemake.params.training_points,
    model=snakemake.params.model,
    members=[int(snakemake.wildcards.first), int(snakemake.wildcards.last)],
    names=snakemake.params.names,
    seed=snakemake.params.seed,
    device=snakemake.config.get("device", "auto"),
    compute_threads=snakemake.params.compute_threads,
    code=snakemake.params.code,
    progress_dir=snakemake.params.progress_dir,
)
