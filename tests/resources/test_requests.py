"""What jobs ask for: computed from the run, corrected by what has been measured."""

from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.common.files import write_json
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run
from kd.resources.requests import Demand, Demands
from kd.workflow.cost import describe
from kd.workflow.workflow import Workflow
from tests.support.tiny import edit, make_project

TEACHER, STUDENT = "retinanet-r50/alone", "retinanet-r18/alone"
DISTILLED = "retinanet-r18/rm_from_retinanet-r50"
IMAGES = 12 * 118_287
# RetinaNet takes 239 at 1280 x 800, of which ResNet-50 4.1 at 224 x 224; COCO's images are taken
# for 1067 x 800 in training.
PIXELS = 800 * 800 * 4 / 3
R50 = 239 * PIXELS / (1280 * 800)
R18 = R50 - (4.1 - 1.8) * PIXELS / 224**2


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def workflow(study: str = "demo", scale: str = "paper", **changes: Any) -> Workflow:
    config = {"study": study, "scale": scale, "seeds": None, "tables": None}
    return Workflow.read({**config, "max_runtime": 10_000, **changes})


def named(found: Workflow, text: str) -> Run:
    (run,) = (run for name, run in found.runs.items() if f"/{text}/" in name)
    return run


def demand(text: str, **changes: Any) -> Demand:
    found = workflow(**changes)
    return found.training(named(found, text).name)


def finished(run: Run, seed: int = 1, gpus: int = 1, **record: Any) -> None:
    """Leave what a finished training of another seed leaves."""
    directory = run.directory.parent / f"seed{seed}-00000000"
    write_json(directory / "run.json", run.identity | {"seed": seed})
    write_json(directory / "config.json", run.config)
    measured = {"seconds": 3600.0, "gpu_seconds": 3600.0 * gpus, "threads": 1}
    write_json(directory / "provenance.json", measured | record)


def minutes(hours: float) -> pytest.approx:
    return pytest.approx(10 + 60 * 1.5 * hours, abs=1)


@pytest.mark.parametrize(
    ("run", "work"), [(TEACHER, 3 * R50), (STUDENT, 3 * R18), (DISTILLED, 3 * R18 + R50)]
)
def test_time_follows_from_the_multiply_adds_of_student_and_teacher(run: str, work: float) -> None:
    assert demand(run).runtime == minutes(IMAGES * work / 5000 / 3600)
    assert demand(run, gpu_tflops=20).runtime == minutes(IMAGES * work / 20_000 / 3600)


def test_the_longest_job_of_the_site_bounds_the_time() -> None:
    assert demand(TEACHER).runtime > 1440
    assert demand(TEACHER, max_runtime=1440).runtime == 1440


def test_a_training_asks_for_what_its_scale_says() -> None:
    asked = demand(TEACHER)
    assert (asked.gpu, asked.tasks, asked.nodes) == (1, 1, 1)
    assert asked.threads == 2 + 4
    assert asked.mem_mb == 12_000 + 4 * 1500
    asked = demand("retinanet-r18-w0.25/alone", scale="smoke")
    assert (asked.gpu, asked.tasks, asked.threads, asked.mem_mb) == (0, 1, 1, 3000)
    assert asked.runtime < 20


def test_the_request_wins_over_the_scale() -> None:
    asked = demand(TEACHER, gpus=0, threads=3, workers=1)
    assert (asked.gpu, asked.tasks, asked.threads, asked.mem_mb) == (0, 1, 4, 13_500)


def test_gpus_share_the_work_and_fill_nodes() -> None:
    one, sixteen = demand(TEACHER), demand(TEACHER, gpus=16)
    assert (sixteen.gpu, sixteen.tasks, sixteen.nodes) == (16, 16, 2)
    assert sixteen.threads == one.threads
    assert sixteen.mem_mb == 8 * one.mem_mb
    assert sixteen.runtime - 10 == pytest.approx((one.runtime - 10) / 16, abs=1)
    assert demand(TEACHER, gpus=16, gpus_per_node=4).nodes == 4
    assert demand(TEACHER, gpus=8, gpus_per_node=3).nodes == 4  # two on each, not three, three, two


def test_a_step_takes_its_time_on_a_gpu_however_little_it_computes() -> None:
    fast = demand(TEACHER, gpu_tflops=100_000)
    assert fast.runtime == minutes(IMAGES / 16 * 0.1 / 3600)


def test_prediction_takes_one_gpu_if_training_has_any() -> None:
    found = workflow(gpus=8)
    asked = found.prediction(named(found, TEACHER).name)
    assert (asked.gpu, asked.tasks, asked.nodes, asked.mem_mb) == (1, 1, 1, 18_000)
    assert asked.runtime == minutes(5000 * 0.1 / 3600)
    found = workflow(gpus=0)
    assert found.prediction(named(found, TEACHER).name).gpu == 0


def test_a_finished_run_of_another_seed_tells_the_rate() -> None:
    finished(named(workflow(), TEACHER), gpus=2, images_per_second=20.0)
    assert demand(TEACHER).runtime == minutes(IMAGES / 10 / 3600)
    assert demand(TEACHER, gpus=4).runtime == minutes(IMAGES / 40 / 3600)


def test_other_finished_runs_correct_the_model_by_their_median() -> None:
    before = demand(DISTILLED).runtime - 10
    modelled = {TEACHER: 5000 / (3 * R50), STUDENT: 5000 / (3 * R18)}
    for run, factor in ((TEACHER, 2), (STUDENT, 4)):
        finished(named(workflow(), run), images_per_second=factor * modelled[run])
    assert demand(DISTILLED).runtime - 10 == pytest.approx(before / 3, abs=1)


def test_what_ran_on_cpus_or_at_another_scale_says_nothing_of_gpus() -> None:
    before = demand(DISTILLED)
    finished(named(workflow(), DISTILLED), gpus=0, images_per_second=0.1)
    finished(named(workflow(scale="mini"), "retinanet-r18-w0.5/alone"), images_per_second=0.1)
    assert demand(DISTILLED) == before
    assert demand(DISTILLED, gpus=0).runtime == 10_000  # 0.1 images a second


def test_an_unreadable_record_is_passed_over() -> None:
    before = demand(TEACHER)
    finished(named(workflow(), STUDENT), images_per_second="fast")
    finished(named(workflow(), TEACHER), seed=2)
    finished(named(workflow(), TEACHER), seed=3, images_per_second=1.0)
    directory = named(workflow(), TEACHER).directory.parent / "seed3-00000000"
    (directory / "run.json").write_text("{}")
    assert demand(TEACHER) == before


def test_without_a_published_cost_the_longest_job_is_asked_for() -> None:
    edit("configs/detectors/retinanet.yaml", cost=None)
    assert demand(TEACHER).runtime == 10_000


def test_published_weights_take_no_gpu() -> None:
    pair = {"teacher": "r50", "student": "r18"}
    pair["checkpoint"] = {"source": "weights.pth", "sha256": "0" * 64}
    edit("configs/studies/demo.yaml", tables__table1__pairs=[pair])
    asked = demand(TEACHER, gpus=16)
    assert (asked.gpu, asked.tasks, asked.runtime) == (0, 1, 10)


def test_published_weights_beside_a_trained_teacher_of_the_same_name() -> None:
    """Both pairs name one teacher; only one of the two is trained, and takes a GPU and hours."""
    pair = {"teacher": "r50", "student": "r18"}
    published = pair | {"checkpoint": {"source": "weights.pth", "sha256": "0" * 64}}
    for pairs in ([published, pair], [pair, published]):
        edit("configs/studies/demo.yaml", tables__table1__pairs=pairs)
        found = workflow()
        imported, trained = sorted(
            (run for run in found.runs.values() if run.model == "retinanet-r50"),
            key=lambda run: "published_checkpoint" not in run.config,
        )
        assert imported != trained and len({imported, trained}) == 2
        asked = [found.training(run.name) for run in (imported, trained)]
        assert [(each.gpu, each.runtime) for each in asked] == [(0, 10), (1, minutes(
            IMAGES * 3 * R50 / 5000 / 3600))]  # fmt: skip


def test_one_setting_of_a_sweep_says_nothing_measured_of_another() -> None:
    changes = {
        "tables__table1__sweep": {"rm": {"weight": [1, 2]}},
        "tables__table1__methods": ["rm"],
    }
    edit("configs/studies/demo.yaml", **changes)
    found = workflow(seeds=2)
    runs = [run for name, run in found.runs.items() if DISTILLED in name]
    light, heavy = runs[:2], runs[2:]
    assert light[0].teacher
    light[0].teacher.write()
    finished(light[1], images_per_second=1.0)
    demands = workflow(seeds=2).demands
    bases = [demands.expected(run)[1] for run in (*light, *heavy)]  # type: ignore[index]
    assert bases == ["measured", "measured", "corrected", "corrected"]


def test_the_check_of_a_data_set_tells_how_many_images_it_has() -> None:
    splits = {"train": {"images": 10, "boxes": 30}, "test": {"images": 5, "boxes": 9}}
    report = {"splits": splits, "fingerprint": "", "dirt": []}
    write_json(Path("results/checks/coco2017.json"), report)
    assert demand(TEACHER).runtime == 11


def test_classifiers_and_their_crops() -> None:
    found = workflow("ours")
    (classifier,) = found.classifiers
    asked = found.classifier_training(classifier)
    work = 3 * 4.1 * 112**2 / 224**2
    assert asked.runtime == minutes(12 * 860_000 / 128 * max(0.1, 128 * work / 5000) / 3600)
    assert asked.gpu == found.classifier_prediction(classifier).gpu == 1
    assert found.crops("coco2017").gpu == 0
    assert found.crops("coco2017").threads == 2


def test_a_job_that_outlives_its_plan_finds_its_run_on_disk() -> None:
    run = named(workflow(), DISTILLED)
    expected = demand(DISTILLED)
    for written in (run, run.teacher):
        assert written
        written.write()
    smoke = workflow(scale="smoke")
    assert run.name not in smoke.runs
    assert smoke.training(run.name).runtime > expected.runtime  # on a CPU, as the smoke scale asks
    assert smoke.training(run.name).gpu == 0
    assert smoke.teacher_weights(run.name) == [str(run.teacher.directory / "weights.pth")]
    assert smoke.dataset_of(run.name) == "coco2017"
    with pytest.raises(UserError, match=f"results/runs/{STUDENT}: not a run of study 'demo'"):
        smoke.training(STUDENT)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"gpus": 3}, ["'gpus' of configs/default.yaml", "3 GPUs", "batch of 16", "schedule '1x'",
                       "/retinanet-r50/alone/", "valid: 0 (no GPU), 1, 2, 4, 8, 16"]),
        ({"gpus": -1}, ["key 'gpus'"]),
        ({"gpu_per_node": 2}, ["'gpu_per_node'", "did you mean 'gpus_per_node'?"]),
        ({"max_runtime": "1 day"}, ["key 'max_runtime'"]),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_when_the_plan_is_made(
    changes: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        workflow(**changes)
    for text in told:
        assert text in str(refused.value)


def test_a_plan_prints_estimates_as_such_and_what_was_measured() -> None:
    library = Library()
    made = plan("demo", "paper", library)
    teacher = named(workflow(), TEACHER)
    measured = {"seconds": 7200.0, "gpu_seconds": 14_400.0, "images_per_second": 197.0}
    write_json(teacher.directory / "provenance.json", measured | {"peak_memory_mb": 4000})
    *lines, total = describe(made, library).splitlines()
    assert [line.split()[-1] for line in lines] == list(made.runs)
    (took,) = (line for line in lines if teacher.name in line)
    assert " 2.00 h  measured " in took
    (estimated,) = (line for line in lines if f"/{STUDENT}/" in line)
    assert f" {IMAGES * 3 * R18 / 5000 / 3600:.2f} h  estimate " in estimated
    assert total.startswith("10 runs; 2.00 h measured; about ")
    demands = Demands(workflow().asked, made.scale, library)
    expected = sum(demands.hours(run) or 0 for run in made.runs.values() if run != teacher)
    assert f"about {expected:.2f} h estimated for 9 runs to come" in total
    assert total.endswith(f"{4 + expected:.2f} GPU hours in all")


def test_room_for_a_teachers_outputs_is_asked_for_where_they_come_again() -> None:
    found = workflow(teacher_cache=500)
    taught, alone = (named(found, text).name for text in (DISTILLED, STUDENT))
    assert (found.teacher_cache(taught), found.teacher_cache(alone)) == (500, 0)
    assert found.training(taught).mem_mb == found.training(alone).mem_mb + 500
    dicod = workflow("dicod", teacher_cache=500)
    kept = {run.detector for name, run in dicod.runs.items() if dicod.teacher_cache(name)}
    assert "faster_rcnn" in kept and "ssd300" not in kept
