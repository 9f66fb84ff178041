# One rule for each figure, because each figure has its own files. `snakemake figures` draws all.
localrules:
    figures,


rule figures:
    input:
        figure_files,


for name, figure in FIGURES.items():

    rule:
        name:
            name
        input:
            figure.inputs,
        output:
            report(
                figure.pictures,
                caption="../report/figure.rst",
                category="Figures",
                subcategory=figure.name,
            ),
            [path for path in figure.outputs if path not in figure.pictures],
        localrule: not figure.settings.runs_networks
        threads: WORKFLOW.prediction(figure.runs[0].name).threads
        resources:
            **resources_of(WORKFLOW.prediction(figure.runs[0].name)),
        params:
            arguments=figure.arguments,
            definition=figure.settings.definition(),
        shell:
            "{KD} figures {params.arguments:q} --threads {WORKFLOW.cpu_threads}"
