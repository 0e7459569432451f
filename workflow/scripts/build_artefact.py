"""Draws a table or figure; see medrobust.jobs.artefacts.build_artefact."""

from medrobust_adapter import run

run(
    snakemake,
    "build_artefact",
    study=snakemake.params.study,
    artefact=snakemake.params.artefact,
    entries=snakemake.params.entries,
    published=snakemake.input.published,
    out=snakemake.output[0],
    run=snakemake.params.run,
    attack=snakemake.params.get("attack", {}),
    cohort=snakemake.input.get("cohort", ""),
    class_names=snakemake.params.get("class_names", []),
    cohort_rule=snakemake.params.get("cohort_rule", ""),
    attacks=snakemake.params.get("attacks", {}),
)
