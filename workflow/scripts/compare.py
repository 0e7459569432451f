"""Holds a study's tables against the published numbers; see medrobust.jobs.artefacts.compare."""

from medrobust_adapter import run

run(
    snakemake,
    "compare",
    study=snakemake.wildcards.study,
    tables=list(snakemake.input.tables),
    published=snakemake.input.published,
    out=snakemake.output.csv,
    run=snakemake.params.run,
    sources=snakemake.params.sources,
)
