"""Lists the points that an attack takes; see medrobust.jobs.evaluate.select_points."""

from pathlib import Path

from medrobust_adapter import run

run(
    snakemake,
    "select_points",
    data=str(Path(snakemake.input.y).parent),
    out=snakemake.output.points,
    split=snakemake.params.split,
    points_per_class=snakemake.params.points_per_class,
    points=snakemake.params.points,
)
