# From teachers to tables. `snakemake` runs the study of configs/default.yaml.
from snakemake.utils import min_version

min_version("9.27")


configfile: "configs/default.yaml"


include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    dataset=r"[\w.-]+",
    run=r"[\w.+/-]+",
    scale=r"[\w.-]+",
    training=r"[\w.+/-]+",


localrules:
    all,


rule all:
    input:
        PUBLISHED,


include: "workflow/rules/data.smk"
include: "workflow/rules/classifiers.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/publish.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/rehearse.smk"


onstart:
    if is_rehearsal():
        write_rehearsals()
    else:
        require_data()
        WORKFLOW.write_options()
        write_runs()
        write_report()
        watch_report()


onsuccess:
    if is_rehearsal():
        print_rehearsals()
    else:
        print_table()
        write_report()


onerror:
    if is_rehearsal():
        print_rehearsals()
    else:
        print_partial_table()
        write_report()
