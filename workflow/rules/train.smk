# A run's directory is named after its configuration, so only the version of the training code is a
# parameter that makes it run again. Checkpoints are not declared as outputs, because Snakemake
# deletes the outputs of a failed job. It also deletes a rule's log when the job starts again, so
# train.log, the log of all starts, is not declared either.
rule train:
    input:
        report=check_report,
        teacher=teacher_weights,
    output:
        weights="results/runs/{run}/weights.pth",
        provenance="results/runs/{run}/provenance.json",
    log:
        "results/runs/{run}/latest.log",
    threads: lambda wildcards: training(wildcards).threads
    resources:
        **resources_by_job(training),
        teacher_cache_mb=lambda wildcards: WORKFLOW.teacher_cache(wildcards.run),
    params:
        directory="results/runs/{run}",
        version=VERSIONS["training"],
    shell:
        "{KD} train {params.directory:q} --check-report {input.report:q}"
        " --processes {resources.tasks} --accumulate {WORKFLOW.options.accumulate} {LOADING}"
        " {TRACKING}"
        " --val-interval {WORKFLOW.options.val_interval}"
        " --teacher-cache {resources.teacher_cache_mb} 2>&1"
        " | tee {log:q} | tee -a {params.directory:q}/train.log"
