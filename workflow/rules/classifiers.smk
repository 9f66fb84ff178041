# Classifier teachers. A crop set's folder and a run's directory end in a digest of their settings.
def object_crops(wildcards):
    return WORKFLOW.crops_of("{scale}/{dataset}/{training}".format_map(wildcards))


# Of a split the JSON file is written last; what it describes lies beside it.
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
    threads: config["threads"]
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
        "results/classifiers/{scale}/{dataset}/{training}/train.log",
    threads: config["threads"]
    params:
        directory="results/classifiers/{scale}/{dataset}/{training}",
    shell:
        "{KD} train {params.directory:q} --report {input.report:q}"
        " --threads {threads} --workers {config[workers]} 2>&1 | tee -a {log:q}"


rule evaluate_classifier:
    input:
        weights="results/classifiers/{run}/weights.pth",
    output:
        predictions="results/classifiers/{run}/predictions.json.gz",
        metrics="results/classifiers/{run}/metrics.json",
    log:
        "results/classifiers/{run}/predict.log",
    threads: config["threads"]
    params:
        directory="results/classifiers/{run}",
    shell:
        "({KD} predict {params.directory:q} --threads {threads} --workers {config[workers]}"
        " && {KD} evaluate {params.directory:q}) 2>&1 | tee {log:q}"
