"""Texts of the configuration reference: introduction, examples, and columns of published rows."""

INTRODUCTION = """# Configuration

Each file of `configs` describes one part: a study, a scale, a schedule, a data set, a detector, a
backbone, a classifier, or the presets of a method. Its name without `.yaml` is the part's name.
An unknown key or an invalid value is an error that names the file, the key and the nearest valid
name. `python -m docs.build.configuration` writes this page from the code, and a test compares them.

"Default" is the value of a key that a file leaves out. "By name" means that the keys of a block are
names that you choose or the names of parts. With `base`, a schedule or a scale inherits every key
that it leaves out. [Change the schedule](../how-to/change-schedule.md) and
[add a table](../how-to/add-table.md) show how files are added."""

PUBLISHED = """## Published numbers: `configs/published/*.csv`

One line is one row of a published table. A study names its file under `published`, and each of its
tables names a value of the column `table`. Empty cells are allowed except in the columns that
identify a row. Example:

```
table,dataset,schedule,detector,teacher,student,method,setting,AP,AP50,AP75,APS,APM,APL,VOC07,source,framework,differs,note
T1,coco2017,1x,retinanet,,r18,baseline,,31.9,50.4,33.8,16.6,34.6,43.8,,RM-PFI AAAI2022 (arXiv 2112.04840),mmdetection,,
```"""  # noqa: E501

COLUMN_MEANINGS = {
    "table": "Name of the table in the source, such as T1.",
    "dataset": "Name of a data set.",
    "schedule": "Name of a schedule.",
    "detector": "Name of the student's detector.",
    "teacher": "Backbone of the teacher, or a classifier; empty for a baseline.",
    "student": "Backbone of the student; empty for a teacher.",
    "method": "teacher, baseline, or methods and presets joined by +.",
    "setting": "Swept setting of the row, as the table prints it, such as weight 2; mostly empty.",
    "AP": "COCO AP over IoU 0.5 to 0.95, in points. Metrics that were not published stay empty.",
    "AP50": "AP at IoU 0.5.",
    "AP75": "AP at IoU 0.75.",
    "APS": "AP of small objects.",
    "APM": "AP of medium objects.",
    "APL": "AP of large objects.",
    "VOC07": "Mean AP of Pascal VOC at IoU 0.5, by the 11-point rule of 2007.",
    "source": "Reference of the publication.",
    "framework": "Framework that the numbers were measured with, if known.",
    "differs": "Reasons why the conditions differ from ours even at scale paper, with '; ' between "
    "them. Such a row gets no verdict.",
    "note": "Origin of the number, if it is not the source itself.",
    "source_student": "AP (VOC07 on Pascal VOC) of the student alone at the origin of a quoted "
    "number. The published gain is over this student. With 'unknown' there is no published gain. "
    "Empty: the table's student. A file may lack this column.",
}

EXAMPLES = {
    "WorkflowOptions": """
study: rm_pfi
scale: paper
seeds: 3
methods: rm,pfi           # only these rows, with their teachers and baselines
schedule: lr=0.01         # all detectors at another learning rate
gpus: 8
""",
    "Study": """
title: Rank mimicking on two detectors
source: Li et al., AAAI 2022 (arXiv 2112.04840)
published: rm_pfi.csv
seeds: 3
tables:
  main:
    title: RM by detector
    published: T1
    dataset: coco2017
    schedule: 1x
    detectors: [retinanet, gfl]
    pairs:
      - {teacher: r50, student: r18}
    methods: [rm, rm+pfi]
    settings: {rm: {weight: 2}}
figures:
  errors: {analysis: tide, table: main, rows: [teacher, baseline, rm]}
""",
    "Scale": """
title: COCO as published, on two GPUs
base: paper
jobs: {gpus: 2, threads: 2, workers: 4, mem_mb: 12000}
""",
    "Schedule": """
epochs: 12
milestones: [8, 11]
warmup_iters: 500
batch_size: 16
lr: 0.01
""",
    "Dataset": """
format: coco
root: data/mine
train: {annotations: annotations/train.json, images: train}
test: {annotations: annotations/test.json, images: test}
image_size: [1333, 800]
""",
    "Detector": """
title: RetinaNet
model:
  type: RetinaNet
  neck: {type: FPN, out_channels: 256, start_level: 1, add_extra_convs: on_input, num_outs: 5}
  bbox_head: {type: RetinaHead, in_channels: 256, feat_channels: 256, stacked_convs: 4}
  test_cfg: {nms_pre: 1000, score_thr: 0.05, max_per_img: 100}
backbones:
  r18: {model: {neck: {out_channels: 128}, bbox_head: {in_channels: 128}}}
""",
    "Backbone": """
title: ResNet-18
model: {type: ResNet, depth: 18, out_indices: [0, 1, 2, 3], style: pytorch}
scaled: {base_channels: 64}
channels: [64, 128, 256, 512]
imagenet: torchvision://resnet18
""",
    "Classifier": """
title: ResNet-50
architecture: resnet50
family: general
""",
    "ZooEntry": """
detector: retinanet     # the entry of retinanet_r101_fpn_2x_coco
backbone: r101
schedule: 2x-lr0.01
""",
    "PresetEntry": """
title: RM with a weight of 2     # the entry of rm_strong in configs/presets/rm.yaml
settings: {weight: 2}
""",
}
