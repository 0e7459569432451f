"""Joins the margins of training points; see medrobust.jobs.evaluate.join_margins."""

from medrobust_adapter import run

run(
    snakemake,
    "join_margins",
    extras=list(snakemake.input.extras),
    out=snakemake.output.margins,
)
