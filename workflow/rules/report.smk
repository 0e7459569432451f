# What is true of every study: comparison with print, and the targets that only tell.
COMPARISON = "results/{run}/{study}/comparison"


rule compare:
    """Holds a study against its published numbers"""
    input:
        unpack(inputs_of("compare")),
    output:
        **outputs_of(
            "compare",
            html=report(
                calls.KINDS["compare"].outputs["html"],
                caption="../report/comparison.rst",
                category="{study}",
                subcategory="Comparison with print",
                labels=report_label("{study}", "Comparison", "published and reproduced numbers"),
            ),
        ),
    log:
        f"{COMPARISON}/comparison.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **params_of("compare"),
    message:
        "Holding {wildcards.study} against its published numbers ({wildcards.run})"
    script:
        RUN_JOB


rule check_published:
    """Recomputes the averages that a paper prints"""
    input:
        unpack(inputs_of("check_published")),
    output:
        **outputs_of(
            "check_published",
            html=report(
                calls.KINDS["check_published"].outputs["html"],
                caption="../report/printed.rst",
                category="{study}",
                subcategory="Comparison with print",
                labels=report_label(
                    "{study}", "Printed averages", "do they follow from their rows?"
                ),
            ),
        ),
    log:
        f"{COMPARISON}/printed.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **params_of("check_published"),
    message:
        "Recomputing the printed averages of {wildcards.study}"
    script:
        RUN_JOB


rule comparison:
    """Every published number beside the reproduced one"""
    input:
        [comparison_files(study) for study in GRAPH.resolved.studies],
    message:
        "The comparisons are made: results/*/*/comparison/comparison.html"


rule claims:
    """Do the sentences of the papers hold?"""
    input:
        [GRAPH.artefact(study, "claims") for study in studies_with("claims")],
    message:
        "The claims are judged: results/*/*/claims/claims.html"


# These have nothing to run: `onstart` prints the answer of the first two.
rule plan:
    """Jobs, hours, disk and download of what is selected"""
    input:
        told("plan"),
    message:
        "That is what the selected studies will take."


rule preflight:
    """What is missing, and what to do"""
    input:
        told("preflight"),
    message:
        "That is what the selected studies still need."


rule no_such_target:
    """Says what is near a name that nothing makes"""
    input:
        refused,
    output:
        "{target}",
    wildcard_constraints:
        target=names.meant_for_us(GRAPH, renamed=renamed, alone=ALONE),
    message:
        "Nothing makes this."
