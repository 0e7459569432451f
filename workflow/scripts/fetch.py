"""Finds or downloads the raw files of a data set; see medrobust.jobs.data.fetch."""

from medrobust_adapter import run

run(
    snakemake,
    "fetch",
    dataset=snakemake.wildcards.dataset,
    source=snakemake.params.origin,
    raw_dir=snakemake.config.get("raw_dir"),
    allow_subset=bool(snakemake.config.get("allow_subset")),
    manifest=snakemake.output.manifest,
)
