# Members of a model, trained in chunks of `members_per_job`.
rule train:
    input:
        x=f"{DATA}/x.npy",
        y=f"{DATA}/y.npy",
        split=f"{DATA}/split_fold0.csv",
        card=f"{DATA}/card.json",
    output:
        members=f"{MODEL}/members_{{first}}-{{last}}.safetensors",
        card=f"{MODEL}/members_{{first}}-{{last}}.json",
        timing=f"{MODEL}/members_{{first}}-{{last}}.timing.json",
        extras=f"{MODEL}/members_{{first}}-{{last}}.extras.safetensors",
    log:
        f"{MODEL}/members_{{first}}-{{last}}.log",
    benchmark:
        f"{MODEL}/members_{{first}}-{{last}}.benchmark.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=data_mb,
        runtime=train_minutes,
        gpu=training_gpus,
    params:
        model=training_params,
        training_points=training_points,
        names=model_names,
        seed=CONFIG.seed,
        compute_threads=CONFIG.compute_threads,
        code=training_code,
        progress_dir=layout.PROGRESS,
    message:
        "Training members {wildcards.first}-{wildcards.last} of {wildcards.model} "
        "on {wildcards.dataset} ({wildcards.run})"
    script:
        "../scripts/train.py"
