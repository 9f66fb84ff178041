# A few steps of every distinct training of the study, at its real size. Rehearsals run in a separate
# project, results/rehearsals/project, so none of their files is a result of a study.
localrules:
    rehearse,
    rehearsal_data,


wildcard_constraints:
    rehearsal="[0-9a-f]{8}",


@functools.cache
def trainings():
    """Return the distinct trainings of all runs by key."""
    from kd.rehearsal.trainings import distinct_trainings

    return distinct_trainings([*WORKFLOW.classifiers.values(), *WORKFLOW.runs.values()])


def rehearsals(wildcards):
    return [training.path for training in trainings().values()]


def rehearsal_data(wildcards):
    dataset = trainings()[wildcards.rehearsal].first.dataset
    return f"results/rehearsals/project/results/checks/{dataset}.json"


def rehearsal_arguments(*keys):
    """Return the options of `kd` for those keys of a rehearsal that are set."""
    values = {key: getattr(WORKFLOW.options, f"rehearsal_{key}") for key in keys}
    return " ".join(f"--{key} {value}" for key, value in values.items() if value)


rule rehearse:
    input:
        rehearsals,


# The configuration of a rehearsal is written when the workflow starts, before any job.
rule rehearsal:
    input:
        rehearsal_data,
    output:
        "results/rehearsals/{rehearsal}/rehearsal.json",
    log:
        "results/rehearsals/{rehearsal}/rehearsal.log",
    threads: WORKFLOW.requests.rehearsal().threads
    resources:
        **resources_of(WORKFLOW.requests.rehearsal()),
    params:
        directory="results/rehearsals/{rehearsal}",
        options=rehearsal_arguments("steps", "batch", "images"),
        gpus=WORKFLOW.requests.gpus,
        accumulate=WORKFLOW.options.accumulate,
        version=VERSIONS["training"],
    shell:
        "{KD} rehearse {params.directory:q} --processes {resources.tasks}"
        " --accumulate {params.accumulate} {LOADING} {params.options} 2>&1 | tee {log:q}"


rule rehearsal_data:
    input:
        generated_data,
    output:
        "results/rehearsals/project/results/checks/{dataset}.json",
    params:
        present=lambda wildcards: WORKFLOW.is_present(wildcards.dataset),
        entry=lambda wildcards: WORKFLOW.dataset_entry(wildcards.dataset),
        options=rehearsal_arguments("images"),
    shell:
        "{KD} stand-in {wildcards.dataset:q} {params.options}"
