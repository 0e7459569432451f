# Members of a model, trained in chunks of `members_per_job`.
rule train:
    """Trains members of a model"""
    input:
        unpack(inputs_of("train_members")),
    output:
        **outputs_of("train_members"),
    log:
        f"{MODEL}/members_{{first}}-{{last}}.log",
    benchmark:
        f"{MODEL}/members_{{first}}-{{last}}.benchmark.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=memory_of("train_members"),
        runtime=minutes_of("train_members"),
        gpu=gpus_of("train_members"),
    params:
        **params_of("train_members"),
    message:
        "Training members {wildcards.first}-{wildcards.last} of {wildcards.model} "
        "on {wildcards.dataset} ({wildcards.run})"
    script:
        RUN_JOB
