"""Recomputes a paper's printed averages; see medrobust.jobs.artefacts.check_published."""

from medrobust_adapter import run

run(
    snakemake,
    "check_published",
    study=snakemake.wildcards.study,
    published=snakemake.input.published,
    out=snakemake.output.csv,
    run=snakemake.params.run,
)
