"""Follows the search of increasing margins; see medrobust.jobs.plane.trace_search."""

from pathlib import Path

from medrobust_adapter import run

run(
    snakemake,
    "trace_search",
    data=str(Path(snakemake.input.x).parent),
    members=list(snakemake.input.members),
    margins=snakemake.input.margins,
    model=snakemake.params.model,
    out=snakemake.output.search,
    names=snakemake.params.names,
    seed=snakemake.params.seed,
    compute_threads=snakemake.params.compute_threads,
)
