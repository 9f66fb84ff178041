# One rule for each figure, because each figure has its own files. `snakemake figures` draws all,
# `snakemake paper_figures` those of the papers.
localrules:
    figures,
    paper_figures,


rule figures:
    input:
        figure_files,


rule paper_figures:
    input:
        paper_figure_files,


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


# The files of a paper's figures have the paper's names.
for name, picture in PAPER_PICTURES.items():

    rule:
        name:
            name
        input:
            picture.inputs,
        output:
            picture.outputs,
        localrule: True
        params:
            heading=picture.heading,
        shell:
            "cp {input[0]:q} {output[0]:q} && cp {input[1]:q} {output[1]:q}"
            " && (printf '%s\\n\\n' {params.heading:q} && cat {input[2]:q}) > {output[2]:q}"
