# signnet: Tables III and IV and Figure 2 (the ECG part of the paper); what the attack spent.
SIGNNET = f"results/{RUN}/signnet"
TABLE = [".html", ".md", ".csv", ".tex", ".provenance.json"]
FIGURE = [".png", ".pdf", ".svg", ".csv", ".provenance.json"]


if "signnet" in GRAPH.resolved.studies:

    rule signnet_table3:
        input:
            published=GRAPH.study("signnet").published,
            summaries=signnet_summaries,
        output:
            report(
                f"{SIGNNET}/tables/table3.html",
                caption="../report/table.rst",
                category="signnet",
                subcategory="Tables",
                labels={"artefact": "Table III", "what": "accuracy on ECG"},
            ),
            [f"{SIGNNET}/tables/table3{suffix}" for suffix in TABLE[1:]],
        log:
            f"{SIGNNET}/tables/table3.log",
        conda:
            "../../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            study="signnet",
            artefact="table3",
            entries=clean_entries("signnet"),
            run=run_facts("signnet"),
            about=about("signnet"),
            code=code_hash("medrobust.jobs.artefacts", "medrobust.studies.signnet"),
        message:
            "signnet Table III: accuracy on ECG"
        script:
            "../scripts/build_artefact.py"

    rule signnet_table4:
        input:
            published=GRAPH.study("signnet").published,
            records=signnet_records,
        output:
            report(
                f"{SIGNNET}/tables/table4.html",
                caption="../report/table.rst",
                category="signnet",
                subcategory="Tables",
                labels={"artefact": "Table IV", "what": "L2 distance on ECG"},
            ),
            [f"{SIGNNET}/tables/table4{suffix}" for suffix in TABLE[1:]],
        log:
            f"{SIGNNET}/tables/table4.log",
        conda:
            "../../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            study="signnet",
            artefact="table4",
            entries=attack_entries("signnet"),
            attack=attack_facts("signnet"),
            cohort_rule=cohort_rule("signnet"),
            run=run_facts("signnet"),
            about=about("signnet"),
            code=code_hash("medrobust.jobs.artefacts", "medrobust.studies.signnet"),
        message:
            "signnet Table IV: smallest L2 distance of HopSkipJump on ECG"
        script:
            "../scripts/build_artefact.py"

    rule signnet_figure2:
        input:
            published=GRAPH.study("signnet").published,
            cohort=signnet_cohort,
            records=signnet_figure_records,
            arrays=signnet_arrays,
        output:
            report(
                f"{SIGNNET}/figures/figure2.png",
                caption="../report/figure.rst",
                category="signnet",
                subcategory="Figures",
                labels={"artefact": "Figure 2", "what": "adversarial ECG"},
            ),
            [f"{SIGNNET}/figures/figure2{suffix}" for suffix in FIGURE[1:]],
        log:
            f"{SIGNNET}/figures/figure2.log",
        conda:
            "../../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            study="signnet",
            artefact="figure2",
            entries=figure_entries("signnet"),
            attack=attack_facts("signnet"),
            cohort_rule=cohort_rule("signnet"),
            class_names=GRAPH.registry[GRAPH.cells("signnet")[0].dataset].classes,
            run=run_facts("signnet"),
            about=about("signnet"),
            code=code_hash("medrobust.jobs.artefacts", "medrobust.studies.signnet"),
        message:
            "signnet Figure 2: one heartbeat and its adversarial versions"
        script:
            "../scripts/build_artefact.py"

    rule signnet_convergence:
        input:
            published=GRAPH.study("signnet").published,
            arrays=signnet_traces,
        output:
            report(
                f"{SIGNNET}/figures/convergence.png",
                caption="../report/convergence.rst",
                category="signnet",
                subcategory="Figures",
                labels={"artefact": "Convergence", "what": "distance against queries"},
            ),
            [f"{SIGNNET}/figures/convergence{suffix}" for suffix in FIGURE[1:]],
        log:
            f"{SIGNNET}/figures/convergence.log",
        conda:
            "../../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            study="signnet",
            artefact="convergence",
            entries=attack_entries("signnet"),
            attack=attack_facts("signnet"),
            cohort_rule=cohort_rule("signnet"),
            run=run_facts("signnet"),
            about=about("signnet"),
            code=code_hash("medrobust.jobs.artefacts", "medrobust.studies.signnet"),
        message:
            "signnet, convergence of the attack: distance against queries"
        script:
            "../scripts/build_artefact.py"

    rule signnet_effort:
        input:
            published=GRAPH.study("signnet").published,
            records=signnet_records,
            arrays=signnet_traces,
        output:
            report(
                f"{SIGNNET}/tables/effort.html",
                caption="../report/effort.rst",
                category="signnet",
                subcategory="Tables",
                labels={"artefact": "Effort", "what": "gain of restarts and iterations"},
            ),
            [f"{SIGNNET}/tables/effort{suffix}" for suffix in TABLE[1:]],
        log:
            f"{SIGNNET}/tables/effort.log",
        conda:
            "../../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            study="signnet",
            artefact="effort",
            entries=attack_entries("signnet"),
            attack=attack_facts("signnet"),
            cohort_rule=cohort_rule("signnet"),
            run=run_facts("signnet"),
            about=about("signnet"),
            code=code_hash("medrobust.jobs.artefacts", "medrobust.studies.signnet"),
        message:
            "signnet, effort of the attack: what restarts and iterations gain"
        script:
            "../scripts/build_artefact.py"

    rule signnet_paired:
        input:
            published=GRAPH.study("signnet").published,
            records=signnet_records,
        output:
            report(
                f"{SIGNNET}/tables/paired.html",
                caption="../report/paired.rst",
                category="signnet",
                subcategory="Tables",
                labels={"artefact": "Paired comparison", "what": "sign networks against others"},
            ),
            [f"{SIGNNET}/tables/paired{suffix}" for suffix in TABLE[1:]],
        log:
            f"{SIGNNET}/tables/paired.log",
        conda:
            "../../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            study="signnet",
            artefact="paired",
            entries=attack_entries("signnet"),
            attack=attack_facts("signnet"),
            cohort_rule=cohort_rule("signnet"),
            run=run_facts("signnet"),
            about=about("signnet"),
            code=code_hash("medrobust.jobs.artefacts", "medrobust.studies.signnet"),
        message:
            "signnet, sign networks against the other models on the same points"
        script:
            "../scripts/build_artefact.py"

    # Names to ask for: `snakemake signnet`, `snakemake signnet_fig2`.
    rule signnet:
        input:
            study_files("signnet"),
        message:
            f"signnet is made: {SIGNNET}"

    rule signnet_fig2:
        input:
            f"{SIGNNET}/figures/figure2.png",
        message:
            "signnet Figure 2 is made: {input}"

    rule signnet_tab3:
        input:
            f"{SIGNNET}/tables/table3.html",
        message:
            "signnet Table III is made: {input}"

    rule signnet_tab4:
        input:
            f"{SIGNNET}/tables/table4.html",
        message:
            "signnet Table IV is made: {input}"

    rule signnet_claims:
        input:
            GRAPH.artefact("signnet", "claims"),
        message:
            "signnet's claims are judged: {input}"
