# Prediction and evaluation have a higher priority than training, so a finished run is measured
# before the next one starts.
localrules:
    evaluate,
    resample,


rule predict:
    input:
        "results/runs/{run}/weights.pth",
    output:
        "results/runs/{run}/detections.json.gz",
    log:
        "results/runs/{run}/predict.log",
    priority: 1
    threads: lambda wildcards: prediction(wildcards).threads
    resources:
        **resources_by_job(prediction),
    params:
        directory="results/runs/{run}",
        version=VERSIONS["prediction"],
    shell:
        "{KD} predict {params.directory:q} {LOADING} 2>&1 | tee {log:q}"


rule evaluate:
    input:
        "results/runs/{run}/detections.json.gz",
        check_report,
    output:
        "results/runs/{run}/metrics.json",
    priority: 1
    params:
        directory="results/runs/{run}",
        version=VERSIONS["evaluation"],
    shell:
        "{KD} evaluate {params.directory:q}"


# matches.npz beside it is a cache, which Snakemake would delete if it were declared.
rule resample:
    input:
        "results/runs/{run}/detections.json.gz",
        check_report,
    output:
        "results/runs/{run}/resampled.npz",
    priority: 1
    params:
        directory="results/runs/{run}",
        version=VERSIONS["resampling"],
    shell:
        "{KD} resample {params.directory:q}"
