# What jobs ask of a machine: memory, time, GPUs.
import os

from medrobust.experiment import resources as needs
from medrobust.experiment.gpus import claims, gpus_of_run
from medrobust.runtime.gpus import HANDED_OVER


def memory_of(job):
    def memory(wildcards, attempt):
        return needs.memory_mb(GRAPH, job, dict(wildcards.items()), attempt)

    return inspected(memory)


def minutes_of(job):
    def minutes(wildcards, attempt):
        return needs.minutes(GRAPH, job, dict(wildcards.items()), attempt)

    return inspected(minutes)


# Where jobs run on this machine, those beyond its GPUs wait unstarted, not in a lock.
CLAIM_GPUS = CONFIG.device == "cuda"  # in the process of a job that was handed over
if workflow.is_main_process:
    CLAIM_GPUS, gpus_at_once = gpus_of_run(GRAPH).claimed, gpus_of_run(GRAPH).at_once
    if gpus_at_once and "gpu" not in workflow.global_resources:
        workflow.global_resources["gpu"] = gpus_at_once
# The only job of a submission may have been given GPUs of its own.
if workflow.remote_exec and len(HANDED_JOBS) == 1:
    os.environ[HANDED_OVER] = "1"


def gpus_of(job):
    if not CLAIM_GPUS:
        return 0  # nothing to ask for each job
    return inspected(lambda wildcards: claims(GRAPH, job, dict(wildcards.items())))


def more_each_time(amount):
    # Where retries are allowed, as in profiles/slurm.
    return inspected(lambda wildcards, attempt: amount * attempt)
