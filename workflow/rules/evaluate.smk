# Clean predictions, the points to attack, and the attacks.
rule evaluate_clean:
    """Predicts the test points without attack"""
    input:
        unpack(inputs_of("evaluate_clean")),
    output:
        **outputs_of("evaluate_clean"),
    log:
        f"{CELL}/{{model}}/clean.log",
    benchmark:
        f"{CELL}/{{model}}/clean.benchmark.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=memory_of("evaluate_clean"),
        runtime=more_each_time(60),
        gpu=gpus_of("evaluate_clean"),
    params:
        **params_of("evaluate_clean"),
    message:
        "Evaluating {wildcards.model} on the test points of {wildcards.dataset} ({wildcards.run})"
    script:
        RUN_JOB


# What a method knows of the training points, of all members.
rule join_margins:
    """Joins what a method knows of its training points"""
    input:
        unpack(inputs_of("join_margins")),
    output:
        **outputs_of("join_margins"),
    log:
        f"{CELL}/{{model}}/margins.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **params_of("join_margins"),
    message:
        "Joining the margins of {wildcards.model}'s training points, {wildcards.dataset}"
    script:
        RUN_JOB


# Of data sets of the plane: what a model says everywhere, and how ima searched at the end.
rule map_plane:
    """Maps what a model says everywhere on a plane"""
    input:
        unpack(inputs_of("map_plane")),
    output:
        **outputs_of("map_plane"),
    log:
        f"{CELL}/{{model}}/plane.log",
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=memory_of("map_plane"),
        runtime=more_each_time(20),
        gpu=gpus_of("map_plane"),
    params:
        **params_of("map_plane"),
    message:
        "Mapping what {wildcards.model} says on the plane of {wildcards.dataset} ({wildcards.run})"
    script:
        RUN_JOB


rule trace_search:
    """Follows the search that a method ended with"""
    input:
        unpack(inputs_of("trace_search")),
    output:
        **outputs_of("trace_search"),
    log:
        f"{CELL}/{{model}}/search.log",
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=memory_of("trace_search"),
        runtime=more_each_time(20),
    params:
        **params_of("trace_search"),
    message:
        "Following the search of {wildcards.model} on {wildcards.dataset} ({wildcards.run})"
    script:
        RUN_JOB


rule choose_cohort:
    """Chooses the points to attack"""
    input:
        unpack(inputs_of("choose_cohort")),
    output:
        **outputs_of("choose_cohort"),
    log:
        f"{FOLD}/cohort.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **params_of("choose_cohort"),
    message:
        "Choosing the points of {wildcards.dataset} to attack ({wildcards.run})"
    script:
        RUN_JOB


rule draw_points:
    """Draws the points that an attack takes at random"""
    input:
        unpack(inputs_of("draw_points")),
    output:
        **outputs_of("draw_points"),
    log:
        f"{FOLD}/{{attack}}/drawn.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **params_of("draw_points"),
    message:
        "Drawing the points of {wildcards.dataset} that {wildcards.attack} takes ({wildcards.run})"
    script:
        RUN_JOB


rule select_points:
    """Lists the points of a split that an attack takes"""
    input:
        unpack(inputs_of("select_points")),
    output:
        **outputs_of("select_points"),
    log:
        f"{FOLD}/{{attack}}/points.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **params_of("select_points"),
    message:
        "Listing the points of {wildcards.dataset} that {wildcards.attack} takes ({wildcards.run})"
    script:
        RUN_JOB


rule attack:
    """Attacks a share of the points"""
    input:
        unpack(inputs_of("attack_chunk")),
    output:
        **outputs_of("attack_chunk"),
    log:
        f"{CELL}/{{model}}/{{attack}}/chunk{{chunk}}.log",
    benchmark:
        f"{CELL}/{{model}}/{{attack}}/chunk{{chunk}}.benchmark.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=memory_of("attack_chunk"),
        runtime=minutes_of("attack_chunk"),
        gpu=gpus_of("attack_chunk"),
    params:
        **params_of("attack_chunk"),
    message:
        "Attacking {wildcards.model} on {wildcards.dataset} with {wildcards.attack}, "
        "chunk {wildcards.chunk} ({wildcards.run})"
    script:
        RUN_JOB


rule gather_records:
    """Joins the records of an attack"""
    input:
        unpack(inputs_of("gather_records")),
    output:
        **outputs_of("gather_records"),
    log:
        f"{CELL}/{{model}}/{{attack}}/records.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        **params_of("gather_records"),
    message:
        "Joining the records of {wildcards.attack} on {wildcards.model}, {wildcards.dataset}"
    script:
        RUN_JOB


rule map_residuals:
    """Maps what an attack changes behind the first pooling"""
    input:
        unpack(inputs_of("map_residuals")),
    output:
        **outputs_of("map_residuals"),
    log:
        f"{CELL}/{{model}}/{{attack}}/residuals.log",
    conda:
        "../../envs/torch.yaml"
    threads: CONFIG.compute_threads
    resources:
        mem_mb=memory_of("map_residuals"),
        runtime=more_each_time(20),
        gpu=gpus_of("map_residuals"),
    params:
        **params_of("map_residuals"),
    message:
        "Mapping what {wildcards.attack} changes in {wildcards.model} on {wildcards.dataset} "
        "({wildcards.run})"
    script:
        RUN_JOB


rule tally:
    """Counts what an attack at given radii did"""
    input:
        unpack(inputs_of("tally_attack")),
    output:
        **outputs_of("tally_attack"),
    log:
        f"{CELL}/{{model}}/{{attack}}/tally.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=20,
    params:
        **params_of("tally_attack"),
    message:
        "Counting what {wildcards.attack} made of {wildcards.model} on {wildcards.dataset}"
    script:
        RUN_JOB
