# Clean predictions, the points to attack, and the attacks.
rule evaluate_clean:
    input:
        x=f"{DATA}/x.npy",
        y=f"{DATA}/y.npy",
        split=f"{DATA}/split_fold0.csv",
        card=f"{DATA}/card.json",
        members=members_of,
    output:
        predictions=f"{CELL}/{{model}}/clean.parquet",
        summary=f"{CELL}/{{model}}/clean.json",
    log:
        f"{CELL}/{{model}}/clean.log",
    benchmark:
        f"{CELL}/{{model}}/clean.benchmark.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=data_mb,
        runtime=60,
        gpu=gpus,
    params:
        model=prediction_params,
        compute_threads=CONFIG.compute_threads,
        code=prediction_code,
    message:
        "Evaluating {wildcards.model} on the test points of {wildcards.dataset} ({wildcards.run})"
    script:
        "../scripts/evaluate_clean.py"


# What a method knows of the training points, of all members.
rule join_margins:
    input:
        extras=extras_of,
    output:
        margins=f"{CELL}/{{model}}/margins.safetensors",
    log:
        f"{CELL}/{{model}}/margins.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_hash("medrobust.jobs.evaluate:join_margins"),
    message:
        "Joining the margins of {wildcards.model}'s training points, {wildcards.dataset}"
    script:
        "../scripts/join_margins.py"


# Of data sets of the plane: what a model says everywhere, and how ima searched at the end.
rule map_plane:
    input:
        x=f"{DATA}/x.npy",
        y=f"{DATA}/y.npy",
        split=f"{DATA}/split_fold0.csv",
        card=f"{DATA}/card.json",
        members=members_of,
    output:
        plane=f"{CELL}/{{model}}/plane.safetensors",
    log:
        f"{CELL}/{{model}}/plane.log",
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=data_mb,
        runtime=20,
        gpu=gpus,
    params:
        model=prediction_params,
        compute_threads=CONFIG.compute_threads,
        code=plane_code,
    message:
        "Mapping what {wildcards.model} says on the plane of {wildcards.dataset} ({wildcards.run})"
    script:
        "../scripts/map_plane.py"


rule trace_search:
    input:
        x=f"{DATA}/x.npy",
        y=f"{DATA}/y.npy",
        split=f"{DATA}/split_fold0.csv",
        card=f"{DATA}/card.json",
        members=members_of,
        margins=f"{CELL}/{{model}}/margins.safetensors",
    output:
        search=f"{CELL}/{{model}}/search.safetensors",
    log:
        f"{CELL}/{{model}}/search.log",
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=data_mb,
        runtime=20,
    params:
        model=search_params,
        names=model_names,
        seed=CONFIG.seed,
        compute_threads=CONFIG.compute_threads,
        code=plane_code,
    message:
        "Following the search of {wildcards.model} on {wildcards.dataset} ({wildcards.run})"
    script:
        "../scripts/trace_search.py"


rule choose_cohort:
    input:
        unpack(cohort_predictions),
    output:
        cohort=f"{FOLD}/cohort.csv",
    log:
        f"{FOLD}/cohort.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        points=cohort_points,
        select=cohort_select,
        names=fold_names,
        seed=CONFIG.seed,
        code=code_hash("medrobust.jobs.evaluate:choose_cohort"),
    message:
        "Choosing {params.points} points of {wildcards.dataset} to attack ({wildcards.run})"
    script:
        "../scripts/choose_cohort.py"


rule select_points:
    input:
        y=f"{DATA}/y.npy",
        x=f"{DATA}/x.npy",
        split=f"{DATA}/split_fold0.csv",
        card=f"{DATA}/card.json",
    output:
        points=f"{FOLD}/{{attack}}/points.csv",
    log:
        f"{FOLD}/{{attack}}/points.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        split=attacked_split,
        points_per_class=attacked_per_class,
        points=attacked_points,
        code=code_hash("medrobust.jobs.evaluate:select_points"),
    message:
        "Listing the points of {wildcards.dataset} that {wildcards.attack} takes ({wildcards.run})"
    script:
        "../scripts/select_points.py"


rule attack:
    input:
        x=f"{DATA}/x.npy",
        y=f"{DATA}/y.npy",
        split=f"{DATA}/split_fold0.csv",
        card=f"{DATA}/card.json",
        members=members_of,
        cohort=points_file,
    output:
        records=f"{CELL}/{{model}}/{{attack}}/chunk{{chunk}}.parquet",
        arrays=f"{CELL}/{{model}}/{{attack}}/chunk{{chunk}}.safetensors",
        timing=f"{CELL}/{{model}}/{{attack}}/chunk{{chunk}}.timing.json",
    log:
        f"{CELL}/{{model}}/{{attack}}/chunk{{chunk}}.log",
    benchmark:
        f"{CELL}/{{model}}/{{attack}}/chunk{{chunk}}.benchmark.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=data_mb,
        runtime=attack_minutes,
        gpu=gpus,
    params:
        model=prediction_params,
        attack=attack_params,
        points=chunk_of,
        names=attack_names,
        seed=CONFIG.seed,
        compute_threads=CONFIG.compute_threads,
        code=attack_code,
        progress_dir=layout.PROGRESS,
    message:
        "Attacking {wildcards.model} on {wildcards.dataset} with {wildcards.attack}, "
        "chunk {wildcards.chunk} ({wildcards.run})"
    script:
        "../scripts/attack.py"


rule gather_records:
    input:
        chunks=chunk_records,
        arrays=chunk_arrays,
        timings=chunk_timings,
    output:
        records=f"{CELL}/{{model}}/{{attack}}/records.parquet",
        arrays=f"{CELL}/{{model}}/{{attack}}/arrays.safetensors",
        made_with=f"{CELL}/{{model}}/{{attack}}/made_with.json",
    log:
        f"{CELL}/{{model}}/{{attack}}/records.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=code_hash("medrobust.jobs.attack:gather_records"),
    message:
        "Joining the records of {wildcards.attack} on {wildcards.model}, {wildcards.dataset}"
    script:
        "../scripts/gather_records.py"


rule tally:
    input:
        predictions=f"{CELL}/{{model}}/clean.parquet",
        chunks=chunk_records,
        timings=chunk_timings,
    output:
        tally=f"{CELL}/{{model}}/{{attack}}/tally.csv",
        made_with=f"{CELL}/{{model}}/{{attack}}/counted_with.json",
    log:
        f"{CELL}/{{model}}/{{attack}}/tally.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=20,
    params:
        subset_per_class=tally_subset,
        code=code_hash("medrobust.jobs.tally:tally_attack"),
    message:
        "Counting what {wildcards.attack} made of {wildcards.model} on {wildcards.dataset}"
    script:
        "../scripts/tally_attack.py"
