localrules:
    publish,


rule publish:
    input:
        metrics=expand("results/runs/{run}/metrics.json", run=WORKFLOW.runs),
        resampled=expand("results/runs/{run}/resampled.npz", run=WORKFLOW.runs),
        classifiers=expand(
            "results/classifiers/{run}/metrics.json", run=WORKFLOW.plan.classifiers
        ),
        published=WORKFLOW.published_numbers,
    output:
        report(
            expand(f"{TABLES}/{{file}}", file=WORKFLOW.published),
            caption="../report/table.rst",
            category="Tables",
        ),
    params:
        titles=WORKFLOW.titles,
        request=WORKFLOW.request,
    shell:
        "{KD} table {params.request:q}"
