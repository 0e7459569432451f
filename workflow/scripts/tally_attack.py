"""Counts what became of the attacked points; see medrobust.jobs.tally.tally_attack."""

from medrobust_adapter import run

run(
    snakemake,
    "tally_attack",
    predictions=snakemake.input.predictions,
    chunks=list(snakemake.input.chunks),
    timings=list(snakemake.input.timings),
    out=snakemake.output.tally,
    made_with=snakemake.output.made_with,
    subset_per_class=snakemake.params.subset_per_class,
)
