# One rule for each study, because each study has its own tables.
for publication in WORKFLOW.publications:

    rule:
        name:
            WORKFLOW.rule("publish", publication)
        input:
            metrics=expand("results/runs/{run}/metrics.json", run=publication.plan.runs),
            resampled=expand(
                "results/runs/{run}/resampled.npz", run=publication.plan.runs
            ),
            validation=publication.validation_results,
            classifiers=expand(
                "results/classifiers/{run}/metrics.json",
                run=publication.plan.classifiers,
            ),
            published=publication.published_numbers,
        output:
            report(
                publication.files,
                caption="../report/table.rst",
                category="Tables",
            ),
        localrule: True
        params:
            titles=publication.titles,
            arguments=publication.arguments,
        shell:
            "{KD} table --complete {params.arguments:q}"
