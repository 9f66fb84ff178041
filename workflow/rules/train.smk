# Checkpoints lie at a path that is not declared: the outputs of a failed job are deleted.
rule train:
    input:
        report=check_report,
        teacher=teacher_weights,
    output:
        weights="results/runs/{run}/weights.pth",
        provenance="results/runs/{run}/provenance.json",
    log:
        "results/runs/{run}/train.log",
    threads: config["threads"]
    params:
        directory="results/runs/{run}",
        workers=config["workers"],
    shell:
        "{KD} train {params.directory:q} --report {input.report:q}"
        " --threads {threads} --workers {params.workers} 2>&1 | tee -a {log:q}"
