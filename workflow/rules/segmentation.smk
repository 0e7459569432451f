# Volumes, slice by slice. nnU-Net has an environment of its own: envs/segmentation.yaml.
rule slice_volumes:
    """Plans and prepares the slices of volumes by nnU-Net"""
    input:
        unpack(inputs_of("slice_volumes")),
    output:
        **outputs_of("slice_volumes"),
    log:
        "results/data/logs/{dataset}@{source}.slices.log",
    benchmark:
        "results/data/logs/{dataset}@{source}.slices.benchmark.tsv"
    conda:
        "../../envs/segmentation.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=more_each_time(8000),
        runtime=more_each_time(120),
    params:
        **params_of("slice_volumes"),
    message:
        "Planning and preparing the slices of {wildcards.dataset} ({wildcards.source})"
    script:
        RUN_JOB


rule train_pixels:
    """Trains a network that gives every pixel a class"""
    input:
        unpack(inputs_of("train_pixels")),
    output:
        **outputs_of("train_pixels"),
    log:
        f"{MODEL}/network.log",
    benchmark:
        f"{MODEL}/network.benchmark.tsv"
    conda:
        "../../envs/segmentation.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=memory_of("train_pixels"),
        runtime=minutes_of("train_pixels"),
        gpu=gpus_of("train_pixels"),
    params:
        **params_of("train_pixels"),
    message:
        "Training {wildcards.model} on slices of {wildcards.dataset} ({wildcards.run})"
    script:
        RUN_JOB


rule attack_pixels:
    """Attacks the test slices"""
    input:
        unpack(inputs_of("attack_pixels")),
    output:
        **outputs_of("attack_pixels"),
    log:
        f"{CELL}/{{model}}/{{attack}}/slices.log",
    benchmark:
        f"{CELL}/{{model}}/{{attack}}/slices.benchmark.tsv"
    conda:
        "../../envs/segmentation.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=memory_of("attack_pixels"),
        runtime=minutes_of("attack_pixels"),
        gpu=gpus_of("attack_pixels"),
    params:
        **params_of("attack_pixels"),
    message:
        "Attacking {wildcards.model} on slices of {wildcards.dataset} with {wildcards.attack} "
        "({wildcards.run})"
    script:
        RUN_JOB
