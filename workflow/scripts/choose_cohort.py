"""Chooses the points to attack; see medrobust.jobs.evaluate.choose_cohort."""

from medrobust_adapter import run

run(
    snakemake,
    "choose_cohort",
    predictions=dict(snakemake.input.items()),
    cohort=snakemake.output.cohort,
    points=snakemake.params.points,
    select=snakemake.params.select,
    names=snakemake.params.names,
    seed=snakemake.params.seed,
)
