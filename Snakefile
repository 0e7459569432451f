# medrobust: adversarial robustness of medical AI, from raw data to published tables and figures.
#
#   snakemake --cores 8 --use-conda            everything that config/config.yaml selects
#   snakemake --cores 8 signnet_figure2        one figure
#   snakemake -n                               what would run
#
# The rules say when, the library (workflow/scripts/medrobust) says how.
from snakemake.utils import min_version

min_version("9.14")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/artefacts.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        study_files(*GRAPH.resolved.studies),
        data_cards(),
    message:
        "Everything that config/config.yaml selects is made."


onstart:
    print(telling.opening_text(GRAPH, workflow.dag_settings.targets))
    refuse_what_cannot_run(workflow.dag_settings.targets)


onsuccess:
    clear_journals(layout.JOURNALS)
    print(*telling.failed_trainings(GRAPH), sep="\n")
