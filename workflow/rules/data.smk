localrules:
    generate_data,
    check_data,


rule generate_data:
    output:
        "data/{dataset}/generated.json",
    wildcard_constraints:
        dataset=r"shapes-\w+",
    params:
        settings=lambda wildcards: WORKFLOW.generator_settings(wildcards.dataset),
    shell:
        "{KD} data {wildcards.dataset:q}"


rule check_data:
    input:
        annotation_files,
    output:
        "results/checks/{dataset}.json",
    params:
        entry=lambda wildcards: WORKFLOW.dataset_entry(wildcards.dataset),
    shell:
        "{KD} check {wildcards.dataset:q} --report {output:q}"
