"""Runs the job of a rule: its named inputs, outputs and parameters are the job's arguments."""

import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
# Snakemake puts this folder last; an installed medrobust of another version must not win.
sys.path.insert(0, str(SCRIPTS))


def given_by(snakemake):
    """Returns the named inputs, outputs and parameters of a rule; several files are a list."""
    files = {**dict(snakemake.input.items()), **dict(snakemake.output.items())}
    several = {name: file if isinstance(file, str) else list(file) for name, file in files.items()}
    return {**several, **snakemake.params.call}


def main(snakemake):
    """Runs the job with messages in the rule's log; exits with 1 on failure."""
    import medrobust

    if Path(medrobust.__file__).resolve().parent != SCRIPTS / "medrobust":
        sys.exit(f"medrobust was imported from {medrobust.__file__}, not from this workflow.")
    from medrobust.core.logs import run_logged
    from medrobust.jobs import arguments_of, circumstances_of, job_named

    job = job_named(snakemake.params.job)
    arguments = arguments_of(job, given_by(snakemake), circumstances_of(snakemake.config))
    run_logged(lambda: job(**arguments), snakemake.log[0])


if "snakemake" in globals():
    main(snakemake)
