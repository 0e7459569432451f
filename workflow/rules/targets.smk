# What is asked for, under which names, and what is said of it.
import functools
import sys

from medrobust.experiment import names, sources, telling

# `use rule * from medrobust as medrobust_*`; when jobs are looked for, it is no longer known.
renamed = workflow.modifier.modify_rulename


def titled(name, title):
    # A docstring that is no literal, for `snakemake --list-target-rules`.
    if workflow.is_rule(renamed(name)):
        workflow.get_rule(renamed(name)).docstring = title


# A second name of a rule is a rule too, and would stand in every list beside the first.
LISTED = {"--list-rules", "--list", "-l", "--list-target-rules", "--lt"} & set(sys.argv)


def refused(wildcards):
    error = names.unknown_target(wildcards.target, GRAPH, renamed=renamed, alone=ALONE)
    raise WorkflowError(str(error))


def told(target):
    # Snakemake heeds `onstart` of the main workflow alone.
    @functools.cache
    def tell():
        print(telling.opening_text(GRAPH, [target]))
        refuse_what_cannot_run([target])

    def files(_):
        if not ALONE:
            tell()
        return []

    return files


def own_targets():
    # Under the names that they have here, also where another workflow renames the rules.
    own = {renamed(name): name for name in ("all", "plan", "preflight", *GRAPH.resolved.studies)}
    return {own.get(target, target) for target in workflow.dag_settings.targets}


def opening_text():
    return telling.opening_text(GRAPH, own_targets())


def refuse_what_cannot_run(targets):
    try:
        sources.refuse_what_cannot_run(GRAPH, targets)
    except InputError as error:
        raise WorkflowError(str(error)) from None
