"""Turns raw files into arrays, split and card; see medrobust.jobs.data.prepare."""

from pathlib import Path

from medrobust_adapter import run

run(
    snakemake,
    "prepare",
    dataset=snakemake.wildcards.dataset,
    source=snakemake.params.origin,
    label=snakemake.wildcards.source,
    manifest=snakemake.input.get("manifest"),
    out_dir=str(Path(snakemake.output.card).parent),
    seed=snakemake.params.seed,
    standin=snakemake.params.standin,
    allow_subset=bool(snakemake.config.get("allow_subset")),
    processes=snakemake.threads,
)
