# What is true of every study: comparison with print, and the targets that only tell.
def start_page(files):
    # What the report opens on; the template workflow/report/workflow.rst calls it.
    from medrobust.reporting.start_page import in_report

    front = {study: parts_of(study).front for study in studies_with_parts()}
    return in_report(Path("results"), PUBLISHED, front, [file.path for file in files])


COMPARISON = "results/{run}/{study}/comparison"


rule compare:
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
        "../scripts/run_job.py"


rule check_published:
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
        "../scripts/run_job.py"


rule comparison:
    input:
        [comparison_files(study) for study in GRAPH.resolved.studies],
    message:
        "The comparisons are made: results/*/*/comparison/comparison.html"


rule claims:
    input:
        [GRAPH.artefact(study, "claims") for study in studies_with("claims")],
    message:
        "The claims are judged: results/*/*/claims/claims.html"


# These two have nothing to run: `onstart` prints the answer.
rule plan:
    message:
        "That is what the selected studies will take."


rule preflight:
    message:
        "That is what the selected studies still need."
