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
        "{KD} generate {wildcards.dataset:q}"


# Changed data are checked again, and every step that depends on them runs again. Each step compares
# its records with its inputs, so a training whose split did not change ends at once.
rule check_data:
    input:
        generated_data,
    output:
        "results/checks/{dataset}.json",
    params:
        entry=lambda wildcards: WORKFLOW.dataset_entry(wildcards.dataset),
        content=data_content,
    shell:
        "{KD} check {wildcards.dataset:q} --check-report {output:q}"
