"""Finds or downloads the raw files of a data set; see medrobust.jobs.data.fetch."""

from medrobust_adapter import run

run(
    snakemake,
    "fetch",
    dataset=snakemake.wildcards.dataset,
    source=snakemake.params.origin,
    raw_dirs=snakemake.params.raw_dirs,
    download_dir=snakemake.params.download_dir,
    allow_subset=snakemake.params.allow_subset,
    manifest=snakemake.output.manifest,
)
