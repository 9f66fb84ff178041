localrules:
    generate_data,
    check_data,


rule generate_data:
    output:
        "data/{dataset}/generated.json",
    wildcard_constraints:
        dataset="|".join(map(re.escape, WORKFLOW.generated)) or "(?!)",
    params:
        settings=lambda wildcards: WORKFLOW.generator_settings(wildcards.dataset),
    shell:
        "{KD} data {wildcards.dataset:q}"


# Data that changed are checked again, and all that was computed from them is: steps find by their
# own records what is still valid, so a training whose split stayed the same ends at once.
rule check_data:
    input:
        generated_data,
    output:
        "results/checks/{dataset}.json",
    params:
        entry=lambda wildcards: WORKFLOW.dataset_entry(wildcards.dataset),
        content=data_content,
    shell:
        "{KD} check {wildcards.dataset:q} --report {output:q}"
