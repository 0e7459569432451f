# What is true of every study: comparison with print, and the targets that only tell.
COMPARISON = "results/{run}/{study}/comparison"


rule compare:
    input:
        published=published_numbers,
        tables=study_tables,
    output:
        csv=f"{COMPARISON}/comparison.csv",
        html=report(
            f"{COMPARISON}/comparison.html",
            caption="../report/comparison.rst",
            category="{study}",
            subcategory="Comparison with print",
            labels={
                "artefact": "comparison",
                "what": "published and reproduced numbers",
            },
        ),
        text=f"{COMPARISON}/comparison.md",
        provenance=f"{COMPARISON}/comparison.provenance.json",
    log:
        f"{COMPARISON}/comparison.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        sources=comparison_sources,
        run=study_facts,
        about=study_about,
        code=study_code,
    message:
        "Holding {wildcards.study} against its published numbers ({wildcards.run})"
    script:
        "../scripts/compare.py"


rule check_published:
    input:
        published=published_numbers,
    output:
        csv=f"{COMPARISON}/printed.csv",
        html=report(
            f"{COMPARISON}/printed.html",
            caption="../report/printed.rst",
            category="{study}",
            subcategory="Comparison with print",
            labels={
                "artefact": "printed averages",
                "what": "do they follow from their rows?",
            },
        ),
        text=f"{COMPARISON}/printed.md",
        latex=f"{COMPARISON}/printed.tex",
        provenance=f"{COMPARISON}/printed.provenance.json",
    log:
        f"{COMPARISON}/printed.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=study_facts,
        code=study_code,
    message:
        "Recomputing the printed averages of {wildcards.study}"
    script:
        "../scripts/check_published.py"


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
