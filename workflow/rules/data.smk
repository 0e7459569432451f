# Raw files to arrays. Only data is shared between studies.
# No input on purpose: see medrobust.experiment.calls.
# After replacing raw files by hand, ask for `--forcerun fetch`.
rule fetch:
    """Finds or downloads the raw files of a data set"""
    output:
        **outputs_of("fetch"),
    log:
        "results/data/logs/{dataset}@{source}.fetch.log",
    localrule: True
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        **params_of("fetch"),
    message:
        "Finding or downloading the raw files of {wildcards.dataset} ({wildcards.source})"
    script:
        RUN_JOB


# As for raw files: after replacing one by hand, ask for `--forcerun fetch_weights`.
rule fetch_weights:
    """Finds or downloads pretrained weights"""
    output:
        **outputs_of("fetch_weights"),
    log:
        "results/data/weights/{weights}.log",
    localrule: True
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        **params_of("fetch_weights"),
    message:
        "Finding or downloading the pretrained weights {wildcards.weights}"
    script:
        RUN_JOB


# A rule for each number of folds: a path cannot say how many files there will be.
for FOLDS, DATASETS in DATASETS_BY_FOLDS.items():

    rule:
        """Prepares the arrays of a data set"""
        name:
            "prepare" if FOLDS == 1 else f"prepare_{FOLDS}_folds"
        input:
            unpack(inputs_of("prepare")),
        output:
            **{f"split{k}": f"{DATA}/split_fold{k}.csv" for k in range(1, FOLDS)},
            x=f"{DATA}/x.npy",
            y=f"{DATA}/y.npy",
            ids=f"{DATA}/ids.csv",
            split=f"{DATA}/split_fold0.csv",
            card=f"{DATA}/card.json",
            card_text=f"{DATA}/card.md",
            preview=report(
                f"{DATA}/preview.png",
                caption="../report/card.rst",
                category="Data",
                labels=report_label("{source}", "{dataset}", "examples"),
            ),
        log:
            "results/data/logs/{dataset}@{source}.prepare.log",
        benchmark:
            "results/data/logs/{dataset}@{source}.prepare.benchmark.tsv"
        wildcard_constraints:
            dataset=DATASETS,
        conda:
            "../../envs/data.yaml"
        threads: 2
        resources:
            mem_mb=memory_of("prepare"),
            runtime=more_each_time(60),
        params:
            **params_of("prepare"),
        message:
            "Preparing the arrays of {wildcards.dataset} ({wildcards.source})"
        script:
            RUN_JOB


# Volumes differ in shape, so there are no arrays: nnUNet_raw/ beside ids.csv, which names its files
# with their SHA-256 (medrobust.data.prepared.volumes).
rule prepare_volumes:
    """Prepares the volumes of a data set"""
    input:
        unpack(inputs_of("prepare")),
    output:
        ids=f"{DATA}/ids.csv",
        split=f"{DATA}/split_fold0.csv",
        nnunet_splits=f"{DATA}/splits_final.json",
        card=f"{DATA}/card.json",
        card_text=f"{DATA}/card.md",
        preview=report(
            f"{DATA}/preview.png",
            caption="../report/card.rst",
            category="Data",
            labels=report_label("{source}", "{dataset}", "examples"),
        ),
    log:
        "results/data/logs/{dataset}@{source}.prepare.log",
    benchmark:
        "results/data/logs/{dataset}@{source}.prepare.benchmark.tsv"
    wildcard_constraints:
        dataset=VOLUMES,
    conda:
        "../../envs/data.yaml"
    threads: 2
    resources:
        mem_mb=more_each_time(3000),
        runtime=more_each_time(60),
    params:
        **params_of("prepare"),
    message:
        "Preparing the volumes of {wildcards.dataset} ({wildcards.source})"
    script:
        RUN_JOB


rule show_card:
    """Shows the card of a data set as a page"""
    input:
        unpack(inputs_of("show_card")),
    output:
        page=report(
            calls.KINDS["show_card"].outputs["page"],
            caption="../report/card.rst",
            category="Data",
            labels=report_label("{source}", "{dataset}", "card"),
        ),
    log:
        "results/data/logs/{dataset}@{source}.card.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **params_of("show_card"),
    message:
        "Showing the card of {wildcards.dataset} ({wildcards.source})"
    script:
        RUN_JOB


rule data:
    """The data sets of the selected studies and of also_prepare"""
    input:
        data_cards(),
    message:
        "The data sets of the selected studies and of `also_prepare` are prepared: results/data/*/card.html"


rule cards:
    """The cards of these data sets"""
    input:
        data_cards(),
    message:
        "The data cards are written: results/data/*/card.html"
