# Tables, figures and lists of claims: a rule for each, all of one form. What there is and what it
# needs stands in medrobust/studies/<study>/catalogue.py.
def draw_artefact(study, name):
    artefact = artefact_of(study, name)
    main = GRAPH.artefact(study, name)

    rule:
        name:
            f"{study}_{name}"
        input:
            **artefact_inputs(study, name),
            published=GRAPH.study(study).published,
        output:
            report(
                main,
                caption=f"../report/{artefact.caption_file}.rst",
                category=study,
                subcategory=SUBCATEGORIES[artefact.kind],
                labels={"artefact": artefact.label, "what": artefact.what},
            ),
            artefact_outputs(study, name),
        log:
            str(Path(main).with_suffix(".log")),
        conda:
            "../../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=15,
        params:
            study=study,
            artefact=name,
            entries=GRAPH.entries(study, artefact),
            attack=attack_facts(study),
            attacks=all_attacks(study),
            cohort_rule=cohort_rule(study),
            class_names=first_classes(study, name),
            run=run_facts(study),
            about=about(study),
            code=code_hash("medrobust.jobs.artefacts:build_artefact", artefact.draw),
        message:
            f"{study}, {artefact.label}: {artefact.what}"
        script:
            "../scripts/build_artefact.py"

    if artefact.alias and artefact.alias != f"{study}_{name}":

        rule:
            name:
                artefact.alias
            input:
                main,
            message:
                f"{study}, {artefact.label} is made: {{input}}"


for STUDY in GRAPH.resolved.studies:

    for ARTEFACT in GRAPH.study(STUDY).artefacts:
        draw_artefact(STUDY, ARTEFACT)

    # Names to ask for: `snakemake signnet`.
    rule:
        name:
            STUDY
        input:
            study_files(STUDY),
        message:
            f"The study {STUDY} is made: results/{RUN}/{STUDY}"
