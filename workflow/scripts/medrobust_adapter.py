"""The one bridge between Snakemake and the library, used by every script in this folder."""

import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
# Snakemake puts this folder last; an installed medrobust of another version must not win.
sys.path.insert(0, str(SCRIPTS))


def run(snakemake, job, **arguments):
    """Runs the library's job with messages in the rule's log; exits with 1 on failure."""
    import medrobust

    if Path(medrobust.__file__).resolve().parent != SCRIPTS / "medrobust":
        sys.exit(f"medrobust was imported from {medrobust.__file__}, not from this workflow.")
    from medrobust.core.logs import run_logged
    from medrobust.jobs import run_job

    run_logged(lambda: run_job(job, **arguments), snakemake.log[0])
