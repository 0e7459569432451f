# Tables, figures and lists of claims: a rule for each, all of one form. What there is and what it
# needs stands in medrobust/studies/<study>/catalogue.py.
SUBCATEGORIES = {"table": "Tables", "figure": "Figures", "claims": "Claims"}


def artefact_call(study, name):
    # These paths have no wildcards: the rule itself says what is drawn.
    wildcards = {"study": study, "run": RUN, "artefact": name}

    def call(job, _):
        return call_of(job, wildcards)

    return (lambda _: call("build_artefact", _).inputs), params_of("build_artefact", call)


def draw_artefact(study, name):
    artefact = artefacts_of(study)[name]
    inputs, params = artefact_call(study, name)
    outputs = calls.artefact_outputs(GRAPH, study, name)
    main = outputs.pop("out")

    rule:
        name:
            f"{study}_{name}"
        input:
            unpack(inputs),
        output:
            **outputs,
            out=report(
                main,
                caption=f"../report/{artefact.caption_file}.rst",
                category=study,
                subcategory=SUBCATEGORIES[artefact.kind],
                labels=report_label(study, artefact.label, artefact.what),
            ),
        log:
            str(Path(main).with_suffix(".log")),
        localrule: True
        conda:
            "../../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=15,
        params:
            **params,
        message:
            f"{study}, {artefact.label}: {artefact.what}"
        script:
            RUN_JOB

    titled(f"{study}_{name}", names.title(study, name))
    if artefact.alias not in ("", f"{study}_{name}") and not LISTED:

        rule:
            name:
                artefact.alias
            input:
                # All its files: one that got lost is drawn again.
                main,
                *outputs.values(),
            message:
                f"{study}, {artefact.label} is made: {{input[0]}}"

        titled(artefact.alias, f"{artefact.label}: another name of {study}_{name}")


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

    titled(STUDY, f"The whole study: {GRAPH.study(STUDY).title}")
