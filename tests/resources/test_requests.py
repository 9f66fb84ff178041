"""Resource requests of jobs: computed from the run and corrected by measured throughput."""

import math
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.common.files import write_json
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions
from kd.resources.requests import ResourceRequests
from kd.workflow.plan_text import describe_plan
from tests.support.requests import IMAGES, finish, run_named, training_request, workflow
from tests.support.tiny import edit, make_project

TEACHER, STUDENT = "retinanet-r50/alone", "retinanet-r18/alone"
DISTILLED = "retinanet-r18/rm_from_retinanet-r50"
# RetinaNet needs 239 giga multiply-adds at 1280 x 800, and its ResNet-50 4.1 at 224 x 224. Training
# images of COCO are assumed to have 1067 x 800 pixels.
PIXELS = 800 * 800 * 4 / 3
R50 = 239 * PIXELS / (1280 * 800)
R18 = R50 - (4.1 - 1.8) * PIXELS / 224**2


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def minutes(hours: float) -> pytest.approx:
    return pytest.approx(10 + 60 * 1.5 * hours, abs=1)


@pytest.mark.parametrize(
    ("run", "gflops"), [(TEACHER, 3 * R50), (STUDENT, 3 * R18), (DISTILLED, 3 * R18 + R50)]
)
def test_time_follows_from_the_multiply_adds_of_student_and_teacher(
    run: str, gflops: float
) -> None:
    assert training_request(run).runtime == minutes(IMAGES * gflops / 5000 / 3600)
    assert training_request(run, gpu_tflops=20).runtime == minutes(IMAGES * gflops / 20_000 / 3600)


def test_the_longest_job_of_the_site_bounds_the_time() -> None:
    assert training_request(TEACHER).runtime > 1440
    assert training_request(TEACHER, max_runtime=1440).runtime == 1440


def test_a_training_requests_the_resources_of_its_scale() -> None:
    request = training_request(TEACHER)
    assert (request.gpu, request.tasks, request.nodes) == (1, 1, 1)
    assert request.threads == 2 + 4
    assert request.mem_mb == 12_000 + 4 * 1500
    request = training_request("retinanet-r18-w0.25/alone", scale="smoke")
    assert (request.gpu, request.tasks, request.threads, request.mem_mb) == (0, 1, 1, 3000)
    assert request.runtime < 20


def test_options_of_the_workflow_override_the_scale() -> None:
    request = training_request(TEACHER, gpus=0, threads=3, workers=1)
    assert (request.gpu, request.tasks, request.threads, request.mem_mb) == (0, 1, 4, 13_500)


def test_gpus_share_the_images_and_fill_nodes() -> None:
    one, sixteen = training_request(TEACHER), training_request(TEACHER, gpus=16)
    assert (sixteen.gpu, sixteen.tasks, sixteen.nodes) == (16, 16, 2)
    assert sixteen.threads == one.threads
    assert sixteen.mem_mb == 8 * one.mem_mb
    assert sixteen.runtime - 10 == pytest.approx((one.runtime - 10) / 16, abs=1)
    assert training_request(TEACHER, gpus=16, gpus_per_node=4).nodes == 4
    assert (
        training_request(TEACHER, gpus=8, gpus_per_node=3).nodes == 4
    )  # two GPUs on each node, instead of three, three and two


def test_a_step_on_a_gpu_has_a_shortest_time() -> None:
    fast = training_request(TEACHER, gpu_tflops=100_000)
    assert fast.runtime == minutes(IMAGES / 16 * 0.1 / 3600)


def test_prediction_uses_one_gpu_if_training_uses_any() -> None:
    planned = workflow(gpus=8)
    request = planned.prediction(run_named(planned, TEACHER).name)
    assert (request.gpu, request.tasks, request.nodes, request.mem_mb) == (1, 1, 1, 18_000)
    assert request.runtime == minutes(5000 * 0.1 / 3600)
    planned = workflow(gpus=0)
    assert planned.prediction(run_named(planned, TEACHER).name).gpu == 0


def test_the_throughput_of_another_seed_is_measured() -> None:
    finish(run_named(workflow(), TEACHER), gpus=2, images_per_second=20.0)
    assert training_request(TEACHER).runtime == minutes(IMAGES / 10 / 3600)
    assert training_request(TEACHER, gpus=4).runtime == minutes(IMAGES / 40 / 3600)


def test_other_finished_runs_correct_the_modeled_throughput_by_their_median() -> None:
    before = training_request(DISTILLED).runtime - 10
    modeled = {TEACHER: 5000 / (3 * R50), STUDENT: 5000 / (3 * R18)}
    for run, factor in ((TEACHER, 2), (STUDENT, 4)):
        finish(run_named(workflow(), run), images_per_second=factor * modeled[run])
    assert training_request(DISTILLED).runtime - 10 == pytest.approx(before / 3, abs=1)


def test_a_finished_run_is_modeled_with_its_own_batch_and_not_with_the_edited_schedule() -> None:
    fast = {"gpu_tflops": 100_000}  # every step has the shortest time, 0.1 s
    finish(run_named(workflow(), STUDENT), images_per_second=16 / 0.1)
    edit("configs/schedules/1x.yaml", batch_size=32)
    assert training_request(DISTILLED, **fast).runtime == minutes(IMAGES / 32 * 0.1 / 3600)


def test_trainings_on_cpus_or_of_another_scale_do_not_change_an_estimate() -> None:
    before = training_request(DISTILLED)
    finish(run_named(workflow(), DISTILLED), gpus=0, images_per_second=0.1)
    finish(run_named(workflow(scale="mini"), "retinanet-r18-w0.5/alone"), images_per_second=0.1)
    assert training_request(DISTILLED) == before
    assert training_request(DISTILLED, gpus=0).runtime == 10_000  # 0.1 images a second


def test_a_training_in_other_parts_is_no_measurement() -> None:
    before = training_request(TEACHER, gpus=1)
    run = run_named(workflow(), TEACHER)
    finish(run, images_per_second=1.0, accumulate=2)
    finish(run_named(workflow(), STUDENT), images_per_second=1.0, accumulate=2)
    assert training_request(TEACHER, gpus=1) == before
    finish(run, seed=2, images_per_second=300.0)
    finish(run, seed=3, images_per_second=200.0, accumulate=2)
    finish(run, seed=4, images_per_second=200.0, accumulate=2)
    whole, in_parts = (training_request(TEACHER, gpus=1, accumulate=n) for n in (1, 2))
    assert whole.runtime == 10 + math.ceil(1.5 * IMAGES / 300 / 60)
    assert in_parts.runtime == 10 + math.ceil(1.5 * IMAGES / 200 / 60)


def test_an_unreadable_record_is_skipped() -> None:
    before = training_request(TEACHER)
    finish(run_named(workflow(), STUDENT), images_per_second="fast")
    finish(run_named(workflow(), TEACHER), seed=2)
    finish(run_named(workflow(), TEACHER), seed=3, images_per_second=1.0)
    directory = run_named(workflow(), TEACHER).directory.parent / "seed3-00000000"
    (directory / "run.json").write_text("{}")
    assert training_request(TEACHER) == before


def test_without_published_flops_the_longest_job_is_requested() -> None:
    edit("configs/detectors/retinanet.yaml", flops=None)
    assert training_request(TEACHER).runtime == 10_000


def test_importing_published_weights_uses_no_gpu() -> None:
    pair = {"teacher": "r50", "student": "r18"}
    pair["checkpoint"] = {"source": "weights.pth", "sha256": "0" * 64}
    edit("configs/studies/demo.yaml", tables__table1__pairs=[pair])
    request = training_request(TEACHER, gpus=16)
    assert (request.gpu, request.tasks, request.runtime) == (0, 1, 10)


def test_published_weights_beside_a_trained_teacher_of_the_same_name() -> None:
    """Both pairs name one teacher. Only one of the two is trained, which takes a GPU and hours."""
    pair = {"teacher": "r50", "student": "r18"}
    published = pair | {"checkpoint": {"source": "weights.pth", "sha256": "0" * 64}}
    for pairs in ([published, pair], [pair, published]):
        edit("configs/studies/demo.yaml", tables__table1__pairs=pairs)
        planned = workflow()
        imported, trained = sorted(
            (run for run in planned.runs.values() if run.model == "retinanet-r50"),
            key=lambda run: "published_checkpoint" not in run.config,
        )
        assert imported != trained and len({imported, trained}) == 2
        requests = [planned.training(run.name) for run in (imported, trained)]
        assert [(request.gpu, request.runtime) for request in requests] == [(0, 10), (1, minutes(
            IMAGES * 3 * R50 / 5000 / 3600))]  # fmt: skip


def test_one_setting_of_a_sweep_is_no_measurement_of_another() -> None:
    changes = {
        "tables__table1__sweep": {"rm": {"weight": [1, 2]}},
        "tables__table1__methods": ["rm"],
    }
    edit("configs/studies/demo.yaml", **changes)
    planned = workflow(seeds=2)
    runs = [run for name, run in planned.runs.items() if DISTILLED in name]
    light, heavy = runs[:2], runs[2:]
    assert light[0].teacher
    light[0].teacher.write()
    finish(light[1], images_per_second=1.0)
    requests = workflow(seeds=2).requests
    bases = [requests.expected(run)[1] for run in (*light, *heavy)]  # type: ignore[index]
    assert bases == ["measured", "measured", "corrected", "corrected"]


def test_the_number_of_images_is_read_from_the_check_of_a_data_set() -> None:
    splits = {"train": {"images": 10, "boxes": 30}, "test": {"images": 5, "boxes": 9}}
    report = {"splits": splits, "fingerprint": "", "dirt": []}
    write_json(Path("results/checks/coco2017.json"), report)
    assert training_request(TEACHER).runtime == 11


def test_classifiers_and_their_crops() -> None:
    planned = workflow("ours")
    (classifier,) = planned.classifiers
    request = planned.classifier_training(classifier)
    gflops = 3 * 4.1 * 112**2 / 224**2
    assert request.runtime == minutes(12 * 860_000 / 128 * max(0.1, 128 * gflops / 5000) / 3600)
    assert request.gpu == planned.classifier_prediction(classifier).gpu == 1
    assert planned.requests.crops("coco2017").gpu == 0
    assert planned.requests.crops("coco2017").threads == 2


def test_the_run_of_a_job_that_outlives_its_plan_is_read_from_disk() -> None:
    run = run_named(workflow(), DISTILLED)
    expected = training_request(DISTILLED)
    for written in (run, run.teacher):
        assert written
        written.write()
    smoke = workflow(scale="smoke")
    assert run.name not in smoke.runs
    assert smoke.training(run.name).runtime > expected.runtime  # on a CPU, as at the smoke scale
    assert smoke.training(run.name).gpu == 0
    assert smoke.teacher_weights(run.name) == [str(run.teacher.directory / "weights.pth")]
    assert smoke.dataset_of(run.name) == "coco2017"
    with pytest.raises(UserError, match=f"results/runs/{STUDENT}: not a run of study 'demo'"):
        smoke.training(STUDENT)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpus": 3}, ["'gpus' of configs/default.yaml", "3 GPUs", "batch of 16", "schedule '1x'",
                       "/retinanet-r50/alone/", "valid: 0 (no GPU), 1, 2, 4, 8, 16"]),
        ({"gpus": -1}, ["key 'gpus'"]),
        ({"gpu_per_node": 2}, ["'gpu_per_node'", "did you mean 'gpus_per_node'?"]),
        ({"max_runtime": "1 day"}, ["key 'max_runtime'"]),
    ],
)  # fmt: skip
def test_options_that_cannot_run_are_refused_when_the_workflow_is_planned(
    changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        workflow(**changes)
    for word in words:
        assert word in str(refused.value)


def test_a_plan_prints_which_hours_are_estimates_and_which_are_measured() -> None:
    library = Library()
    planned = plan("demo", "paper", library)
    teacher = run_named(workflow(), TEACHER)
    usage = {"seconds": 7200.0, "gpu_seconds": 14_400.0, "images_per_second": 197.0}
    write_json(teacher.directory / "provenance.json", usage | {"peak_memory_mb": 4000})
    lines = describe_plan(planned, library).splitlines()
    of_row = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("table1/")}
    assert [*of_row] == [row.key for row in planned.rows]
    assert of_row["table1/1x/retinanet/r50/teacher"] == ["1", "1", "2.0", "h", "-"]
    hours = IMAGES * 3 * R18 / 5000 / 3600
    assert of_row["table1/1x/retinanet/r18/baseline"] == f"1 0 - about {hours:.0f} h".split()
    requests = ResourceRequests(workflow().options, planned.scale, library)
    expected = sum(requests.hours(run) or 0 for run in planned.runs.values() if run != teacher)
    assert lines[:3] == [
        "Scale paper: 10 trainings for 10 rows, 1 finished",
        f"Time: 2.0 h used, about {expected:.0f} h remaining (an estimate for 9 trainings)",
        f"GPU hours in all: about {4 + expected:.0f} h",
    ]


def test_a_plan_prints_the_learning_rate_that_is_scaled_to_the_batch() -> None:
    options = StudyOptions(schedule="batch_size=8,base_batch_size=16")
    lines = describe_plan(plan("demo", "paper", Library(), options), Library()).splitlines()
    assert [line for line in lines if line.startswith("Learning rate")] == [
        "Learning rate of schedule '1x-batch_size8-base_batch_size16': 0.01 for a batch of 8 "
        "(0.02 for 16)"
    ]
    lines = describe_plan(plan("demo", "paper", Library()), Library()).splitlines()
    assert not [line for line in lines if line.startswith("Learning rate")]


def test_a_plan_names_missing_data_and_how_to_fetch_them() -> None:
    lines = describe_plan(plan("bccd", "laptop", Library()), Library()).splitlines()
    assert lines[1] == "Time: 0 min used; 5 trainings have no estimate"
    assert lines[2] == "Data set 'bccd' is missing: 8 MB; run"
    assert lines[3].startswith("  git clone https://")


def test_memory_for_the_teacher_cache_is_requested_if_images_are_repeated() -> None:
    planned = workflow(teacher_cache=500)
    taught, alone = (run_named(planned, text).name for text in (DISTILLED, STUDENT))
    assert (planned.teacher_cache(taught), planned.teacher_cache(alone)) == (500, 0)
    assert planned.training(taught).mem_mb == planned.training(alone).mem_mb + 500
    dicod = workflow("dicod", teacher_cache=500)
    cached = {run.detector for name, run in dicod.runs.items() if dicod.teacher_cache(name)}
    assert "faster_rcnn" in cached and "ssd300" not in cached


def test_a_batch_that_parts_cannot_divide_is_refused_with_the_valid_numbers() -> None:
    with pytest.raises(UserError) as raised:
        workflow(accumulate=3)
    line = "'accumulate' of configs/default.yaml and --config: 16 images of the batch of 16 images"
    assert str(raised.value).startswith(line)
    assert str(raised.value).endswith("cannot be computed in 3 equal parts; valid: 1, 2, 4, 8, 16")
    with pytest.raises(UserError) as raised:
        workflow(gpus=4, accumulate=8)
    assert "4 images on each of 4 GPUs ('gpus') of the batch of 16 images" in str(raised.value)
    assert str(raised.value).endswith("valid: 1, 2, 4")
    assert workflow(gpus=4, accumulate=4).options.accumulate == 4


def test_parts_of_a_batch_change_neither_runs_nor_requests() -> None:
    whole, in_parts = workflow(), workflow(accumulate=4)
    assert in_parts.runs.keys() == whole.runs.keys()
    name = run_named(whole, TEACHER).name
    assert in_parts.training(name) == whole.training(name)
