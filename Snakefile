# The workflow is workflow/Snakefile; from this folder `snakemake` finds it here.
include: "workflow/Snakefile"


# Snakemake takes the default target of a file, not of those that it includes.
workflow.default_target = "all"
