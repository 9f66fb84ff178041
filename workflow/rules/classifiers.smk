# Classifier teachers. A crop set's folder and a run's directory end in a digest of their settings.
def classifier_of(wildcards):
    return "{scale}/{dataset}/{training}".format_map(wildcards)


def object_crops(wildcards):
    return WORKFLOW.crops_of(classifier_of(wildcards))


def cutting(wildcards):
    return WORKFLOW.requests.crops(wildcards.dataset)


def classifier_training(wildcards):
    return WORKFLOW.classifier_training(classifier_of(wildcards))


def classifier_prediction(wildcards):
    return WORKFLOW.classifier_prediction(wildcards.run)


# The JSON file of a split is written last, after the crops that it describes.
rule crops:
    input:
        "results/checks/{dataset}.json",
    output:
        "results/crops/{dataset}-{digest}/train.json",
        "results/crops/{dataset}-{digest}/test.json",
    log:
        "results/crops/{dataset}-{digest}/crops.log",
    wildcard_constraints:
        digest="[0-9a-f]{8}",
    threads: lambda wildcards: cutting(wildcards).threads
    resources:
        **resources_by_job(cutting),
    params:
        directory="results/crops/{dataset}-{digest}",
    shell:
        "{KD} crops {params.directory:q} --threads {threads} 2>&1 | tee {log:q}"


rule train_classifier:
    input:
        report="results/checks/{dataset}.json",
        crops=object_crops,
    output:
        weights="results/classifiers/{scale}/{dataset}/{training}/weights.pth",
        provenance="results/classifiers/{scale}/{dataset}/{training}/provenance.json",
    log:
        "results/classifiers/{scale}/{dataset}/{training}/latest.log",
    threads: lambda wildcards: classifier_training(wildcards).threads
    resources:
        **resources_by_job(classifier_training),
    params:
        directory="results/classifiers/{scale}/{dataset}/{training}",
        version=VERSIONS["training"],
    shell:
        "{KD} train {params.directory:q} --check-report {input.report:q}"
        " --processes {resources.tasks} --accumulate {WORKFLOW.options.accumulate} {LOADING}"
        " {TRACKING} 2>&1"
        " | tee {log:q} | tee -a {params.directory:q}/train.log"


rule evaluate_classifier:
    input:
        weights="results/classifiers/{run}/weights.pth",
    output:
        predictions="results/classifiers/{run}/predictions.json.gz",
        metrics="results/classifiers/{run}/metrics.json",
    log:
        "results/classifiers/{run}/predict.log",
    threads: lambda wildcards: classifier_prediction(wildcards).threads
    resources:
        **resources_by_job(classifier_prediction),
    params:
        directory="results/classifiers/{run}",
        versions=[VERSIONS["prediction"], VERSIONS["evaluation"]],
    shell:
        "({KD} predict {params.directory:q} {LOADING}"
        " && {KD} evaluate {params.directory:q}) 2>&1 | tee {log:q}"
