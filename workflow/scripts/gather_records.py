"""Joins the chunks of an attack; see medrobust.jobs.attack.gather_records."""

from medrobust_adapter import run

run(
    snakemake,
    "gather_records",
    chunks=list(snakemake.input.chunks),
    arrays=list(snakemake.input.arrays),
    timings=list(snakemake.input.timings),
    records=snakemake.output.records,
    joined_arrays=snakemake.output.arrays,
    made_with=snakemake.output.made_with,
)
