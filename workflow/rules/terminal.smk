# What the terminal shows: medrobust.experiment.terminal says what and why. Jobs and their
# processes, on whatever machine, keep Snakemake's own messages.
from snakemake.logging import logger as snakemake_logger
from snakemake.settings.enums import Quietness

TERMINAL = None


def refuse_unwritable(folder):
    try:
        io.refuse_unwritable(folder)
    except InputError as error:
        raise WorkflowError(str(error)) from None


# Snakemake makes notes there even in a dry run, and says no more than a traceback if it cannot.
if workflow.is_main_process:
    refuse_unwritable(".snakemake")


def planned_jobs():
    return [
        terminal.PlannedJob(job.jobid, job.rule.name, job.wildcards_dict, bool(job.log))
        for job in workflow.dag.needrun_jobs()
    ]


def jobs_at_once():
    if workflow.nodes:
        return workflow.nodes
    return max(1, (workflow.global_resources["_cores"].value or 1) // CONFIG.compute_threads)


# As profiles/default says. Another --quiet, or --verbose, asks for what Snakemake itself shows.
if (
    ALONE
    and workflow.is_main_process
    and not workflow.output_settings.verbose
    and workflow.output_settings.quiet == {Quietness.HOST, Quietness.REASON}
):
    TERMINAL = terminal.install(
        snakemake_logger.handlers,
        GRAPH,
        planned_jobs,
        jobs_at_once,
        dry_run=workflow.output_settings.dryrun,
    )


def say_nothing_of_jobs():
    # A dry run tells of each job, here to be held back: to put the words together took a quarter of
    # its time. There is no log file either. If the short terminal fails, Snakemake says all again.
    from snakemake.jobs import Job

    told = Job.log_info

    def log_info(job, *arguments, **options):
        if not TERMINAL.working:
            told(job, *arguments, **options)

    Job.log_info = log_info


if TERMINAL is not None and workflow.output_settings.dryrun:
    say_nothing_of_jobs()


def end_of_run():
    if TERMINAL is not None:
        TERMINAL.stop()
