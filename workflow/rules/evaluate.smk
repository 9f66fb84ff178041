# Prediction and evaluation have a higher priority than training, so a finished run is measured
# before the next one starts.
localrules:
    evaluate,
    evaluate_on_validation,
    resample,
    resample_on_validation,


# The name of a run ends in a digest. The folder `val` in it is no part of the name.
wildcard_constraints:
    run=r".+-[0-9a-f]{8}",


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


# The same steps on the validation split, for rows of sweeps. `directory` is the run with the option.
def validated_run(wildcards):
    return [f"results/runs/{wildcards.run}", "--split", "val"]


use rule predict as predict_on_validation with:
    output:
        "results/runs/{run}/val/detections.json.gz",
    log:
        "results/runs/{run}/val/predict.log",
    params:
        directory=validated_run,
        version=VERSIONS["prediction"],


use rule evaluate as evaluate_on_validation with:
    input:
        "results/runs/{run}/val/detections.json.gz",
        check_report,
    output:
        "results/runs/{run}/val/metrics.json",
    params:
        directory=validated_run,
        version=VERSIONS["evaluation"],


use rule resample as resample_on_validation with:
    input:
        "results/runs/{run}/val/detections.json.gz",
        check_report,
    output:
        "results/runs/{run}/val/resampled.npz",
    params:
        directory=validated_run,
        version=VERSIONS["resampling"],
