"""Counts what became of the attacked points; see medrobust.jobs.tally.tally_attack."""

from medrobust_adapter import run

run(
    snakemake,
    "tally_attack",
    predictions=snakemake.input.predictions,
    records=snakemake.input.records,
    out=snakemake.output.tally,
    subset_per_class=snakemake.params.subset_per_class,
)
