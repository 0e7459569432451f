"""Maps what a model says on the plane; see medrobust.jobs.plane.map_plane."""

from pathlib import Path

from medrobust_adapter import run

run(
    snakemake,
    "map_plane",
    data=str(Path(snakemake.input.x).parent),
    members=list(snakemake.input.members),
    model=snakemake.params.model,
    out=snakemake.output.plane,
    device=snakemake.config.get("device", "auto"),
    compute_threads=snakemake.params.compute_threads,
)
