"""A cache of a teacher's outputs changes no bit of a training, and is never trusted blindly."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from safetensors.torch import save

import kd.runtime  # noqa: F401
from kd.common.errors import UserError
from kd.config.run import Run
from kd.models import weights
from kd.observers import Batch, observe
from kd.training.loop import ResumableEpochLoop
from kd.training.teacher_cache import FOLDER, Shown, TeacherCache, amount
from kd.training.train import build_runner
from tests.support.states import changed
from tests.support.tiny import edit

MEGABYTES = 100
EPOCHS, STEPS = 3, 2
"""Steps of an epoch: ten images in batches of five."""
CASES = [
    ("retinanet", "pfi"),
    ("retinanet", "rm"),
    ("retinanet", "fitnets"),
    ("retinanet", "soft_labels"),
    ("retinanet", "rm+pfi"),
    ("gfl", "rm+pfi"),
    ("fcos", "rm+pfi"),
    ("faster_rcnn", "mimic"),
    ("faster_rcnn", "fitnets"),
    ("faster_rcnn", "soft_labels"),
    ("faster_rcnn", "defeat_backbone"),
]


@pytest.fixture
def distilled(study: Callable[..., Any]) -> Callable[..., Run]:
    """Return a run of three epochs that logs every step."""

    def planned(detector: str, method: str, batch_size: int = 5) -> Run:
        edit(
            "configs/schedules/tiny.yaml",
            epochs=EPOCHS,
            batch_size=batch_size,
            checkpoint_steps=2,
        )
        run = list(study([method], detectors=(detector,)).runs.values())[-1]
        for hook in run.config["custom_hooks"]:
            if hook["type"] == "StepLog":
                hook["interval"] = 1
        return run

    return planned


def trained(run: Run, name: str, megabytes: int = MEGABYTES, **options: Any) -> Any:
    """Train in a folder of its own; return the runner, with how often its teacher ran."""
    runner = build_runner(run.config, Path(name), teacher_cache_mb=megabytes, **options)
    runner.teacher_ran = 0

    def count(*_: Any) -> None:
        runner.teacher_ran += 1

    runner.model.teacher.backbone.register_forward_hook(count)
    runner.train()
    return runner


def log(name: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in Path(name, "log.jsonl").read_text().splitlines()]
    for record in records:
        del record["images_per_second"]
    return records


def assert_same(runner: Any, other: Any) -> None:
    """Compare every loss of every step, gradient norms, and the weights, bit by bit."""
    assert changed(runner.model.state_dict(), other.model.state_dict()) == []
    first, second = (str(Path(each.work_dir).parent) for each in (runner, other))
    assert log(first) == log(second)
    assert len(log(first)) == runner.max_iters


def files(folder: Path = FOLDER) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


# --- The same training ---------------------------------------------------------------------


@pytest.mark.parametrize(("detector", "method"), CASES, ids=map("-".join, CASES))
def test_a_cache_changes_no_loss_and_no_weight(distilled, detector, method):
    run = distilled(detector, method)
    plain, cached = trained(run, "plain", 0), trained(run, "cached")
    assert_same(plain, cached)
    assert plain.teacher_ran == EPOCHS * STEPS
    assert cached.teacher_ran == 2 * STEPS  # in the first epoch, on each batch and its mirror image


def test_nor_does_it_where_images_are_left_over(distilled):
    run = distilled("retinanet", "rm+pfi", batch_size=4)
    assert_same(trained(run, "plain", 0), trained(run, "cached"))


def test_several_loader_workers_change_nothing(distilled):
    run = distilled("retinanet", "rm+pfi")
    assert_same(trained(run, "plain", 0), trained(run, "cached", workers=2))


def test_a_resumed_training_is_the_uninterrupted_one(distilled, monkeypatch):
    run = distilled("retinanet", "rm+pfi")
    plain = trained(run, "plain", 0)
    make_step = ResumableEpochLoop.run_iter

    def stopped(loop: Any, *arguments: Any) -> None:
        if loop.iter == 3:
            raise KeyboardInterrupt
        make_step(loop, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ResumableEpochLoop, "run_iter", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(run, "cached")
    assert_same(plain, trained(run, "cached"))


def test_the_next_run_finds_logits_and_boxes_on_disk(distilled, capsys):
    run = distilled("retinanet", "rm")
    plain = trained(run, "plain", 0)
    trained(run, "first")
    second = trained(run, "second")
    assert_same(plain, second)
    assert second.teacher_ran == 0
    assert "teacher outputs: 100 % of 12 batches known; 0 kB of memory" in capsys.readouterr().out


# --- Not the same teacher, image or transform ----------------------------------------------


def test_a_retrained_teacher_is_asked_anew(distilled):
    run = distilled("retinanet", "rm")
    trained(run, "first")
    path = run.teacher.directory / "weights.pth"
    state = weights.read_state(path)
    state["bbox_head.retina_cls.bias"] += 1
    weights.save(path, {"state_dict": state})
    assert_same(trained(run, "plain", 0), trained(run, "cached"))
    assert len({file.parent for file in files()}) == 2


@pytest.fixture
def teacher(build: Callable[..., Any]) -> Any:
    return build("retinanet").requires_grad_(False).eval()


@pytest.fixture
def cache(tmp_path: Path) -> TeacherCache:
    return new_cache(tmp_path)


def new_cache(folder: Path, megabytes: int = MEGABYTES, **settings: Any) -> TeacherCache:
    """Return a cache for batches of two; settings are those that all images share."""
    return TeacherCache(settings, Shown(4, 2, 2), megabytes, folder / "kept")


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., Batch]:
    """Return a batch of two images of 64 x 96 pixels, of 40 x 48 or of one and the other.

    ``names``: of their files, which have the content of their names.
    """

    def made(
        names: str = "ab", sizes: tuple[tuple[int, int], ...] = ((64, 96),) * 2, flip: bool = False
    ) -> Batch:
        tall, wide = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
        inputs, samples = torch.zeros(2, 3, tall, wide), []
        for place, name, (height, width) in zip(inputs, names, sizes, strict=True):
            image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(ord(name)))
            place[:, :height, :width] = image.flip(-1) if flip else image
            path = tmp_path / f"{name}.png"
            path.write_text(name)
            about = {"img_path": str(path), "img_shape": (height, width), "flip": flip}
            samples.append(DetDataSample(metainfo=about))
        return Batch(inputs, samples)

    return made


def flat(seen: Any) -> list[torch.Tensor]:
    return [*seen.stages, *seen.neck, *(level for kind in seen.outputs for level in kind)]


def assert_known(cache: TeacherCache, teacher: Any, batch: Batch, known: bool = True) -> None:
    """Check that the answer is the teacher's, and whether the teacher had to be asked."""
    before, read = cache.found, cache.read
    answer = flat(cache.observe(teacher, batch))
    assert all(map(torch.equal, answer, flat(observe(teacher, batch, frozen=True))))
    assert (cache.found - before, cache.read - read) == (3 if known else 0, 3)


def test_both_forms_of_an_image_are_known_from_one_batch(cache, teacher, pair):
    assert_known(cache, teacher, pair(), known=False)
    assert_known(cache, teacher, pair())
    assert_known(cache, teacher, pair(flip=True))
    assert_known(cache, teacher, pair("ba", flip=True))


def test_a_smaller_image_is_mirrored_within_its_padding(cache, teacher, pair):
    small = ((40, 48),) * 2
    assert_known(cache, teacher, pair(sizes=small), known=False)
    assert_known(cache, teacher, pair(sizes=small, flip=True))


def test_images_of_one_batch_are_known_in_another(cache, teacher, pair):
    assert_known(cache, teacher, pair("ab"), known=False)
    assert_known(cache, teacher, pair("cd"), known=False)
    assert_known(cache, teacher, pair("da"))
    assert_known(cache, teacher, pair("de"), known=False)


def test_an_image_in_other_padding_is_asked_anew(cache, teacher, pair):
    small, mixed = ((40, 48),) * 2, ((40, 48), (64, 96))
    assert_known(cache, teacher, pair("ab", small), known=False)
    assert_known(cache, teacher, pair("ac", mixed), known=False)
    assert_known(cache, teacher, pair("ac", mixed))


def test_mirror_images_of_mixed_sizes_wait_for_their_turn(cache, teacher, pair):
    mixed = ((40, 48), (64, 96))
    assert_known(cache, teacher, pair("ac", mixed), known=False)
    assert_known(cache, teacher, pair("ac", mixed, flip=True), known=False)
    assert_known(cache, teacher, pair("ac", mixed, flip=True))


def test_another_image_under_the_same_name_is_asked_anew(tmp_path, teacher, pair):
    assert_known(new_cache(tmp_path), teacher, pair(), known=False)
    other = pair()
    (tmp_path / "b.png").write_text("changed")
    seen = new_cache(tmp_path).observe(teacher, replace(other, inputs=other.inputs + 1))
    wanted = observe(teacher, replace(other, inputs=other.inputs + 1), frozen=True).outputs[0]
    assert all(map(torch.equal, seen.outputs[0], wanted))


@pytest.mark.parametrize(
    "settings", [{"weights_sha256": "1"}, {"pipelines": 1}, {"preprocessor": 1}]
)
def test_other_settings_have_files_of_their_own(tmp_path, teacher, pair, settings):
    assert new_cache(tmp_path).observe(teacher, pair()).outputs
    other = new_cache(tmp_path, **settings)
    assert other.observe(teacher, pair()).outputs
    assert other.found == 0
    assert json.loads((other.disk.folder / "setting.json").read_text()).items() >= settings.items()


def test_half_precision_is_not_answered_with_whole(tmp_path, teacher, pair):
    assert_known(new_cache(tmp_path), teacher, pair(), known=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert_known(new_cache(tmp_path), teacher, pair(), known=False)
        half = new_cache(tmp_path)
        seen = half.observe(teacher, pair())
    assert seen.outputs[0][0].dtype == torch.bfloat16  # read after autocast, as terms do
    assert half.found == 1
    wanted = observe(teacher, pair(), frozen=True).outputs[0][0]
    assert seen.outputs[0][0].float() == pytest.approx(wanted, abs=0.1)


def test_mirror_images_are_computed_in_the_precision_of_the_step(cache, teacher, pair):
    with torch.autocast("cpu", torch.bfloat16):
        seen = cache.observe(teacher, pair())
    assert seen.outputs  # outside of autocast, as terms read
    with torch.autocast("cpu", torch.bfloat16):
        mirrored = cache.observe(teacher, pair(flip=True)).outputs[0]
        wanted = observe(teacher, pair(flip=True), frozen=True).outputs[0]
    assert cache.found == 1
    assert all(map(torch.equal, mirrored, wanted))


def test_maps_lie_in_memory_as_the_teacher_leaves_them(tmp_path, teacher, pair):
    batch = pair()
    batch = replace(batch, inputs=batch.inputs.to(memory_format=torch.channels_last))
    plain = flat(observe(teacher.to(memory_format=torch.channels_last), batch, frozen=True))
    cache = new_cache(tmp_path)
    for _ in range(2):
        again = flat(cache.observe(teacher, batch))
        assert [each.is_contiguous() for each in again] == [each.is_contiguous() for each in plain]
        assert all(map(torch.equal, again, plain))
    assert cache.found == 3


def test_a_batch_of_another_size_is_none_of_its_business(cache, teacher, pair):
    batch = pair()
    alone = Batch(batch.inputs[:1], batch.samples[:1])
    for _ in range(2):
        wanted = flat(observe(teacher, alone, frozen=True))
        assert all(map(torch.equal, flat(cache.observe(teacher, alone)), wanted))
    assert cache.read == 0


# --- What is kept is not to be changed, and not to be trusted ------------------------------


def test_what_a_term_does_to_an_answer_is_its_own_affair(cache, teacher, pair):
    for _ in range(3):
        for answer in flat(cache.observe(teacher, pair())):
            answer.zero_()
    assert_known(cache, teacher, pair())
    assert_known(cache, teacher, pair(flip=True))


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "flipped bit", "other text", "other name", "no checksum"]
)
def test_a_damaged_file_is_made_anew_with_a_warning(tmp_path, teacher, pair, capsys, damage):
    assert_known(new_cache(tmp_path), teacher, pair(), known=False)
    path = files(tmp_path / "kept")[0]
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "cut": content[:middle],
            "empty": b"",
            "flipped bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "other text": b'{"checksum": 0, "maps": [[[]]]}\n',
            "other name": content.replace(b"0.0.chw", b"0.0.hwc"),
            "no checksum": save({"0.0.chw": torch.ones(1, 1, 1)}),
        }[damage]
    )
    for flip in (False, True):
        answer = new_cache(tmp_path).observe(teacher, pair(flip=flip)).outputs[0]
        wanted = observe(teacher, pair(flip=flip), frozen=True).outputs[0]
        assert all(map(torch.equal, answer, wanted))
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1
    assert f"warning: {path}: cannot be read" in warned
    assert path.read_bytes() == content


def test_a_training_goes_on_where_nothing_can_be_written(tmp_path, teacher, pair, capsys):
    (tmp_path / "kept").write_text("in the way")
    cache = new_cache(tmp_path)
    for names in ("ab", "cd"):
        wanted = observe(teacher, pair(names), frozen=True).outputs[0]
        assert all(map(torch.equal, cache.observe(teacher, pair(names)).outputs[0], wanted))
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1
    assert "training continues and caches no more of these" in warned


def test_what_does_not_fit_as_a_whole_is_computed_in_every_step(tmp_path, teacher, pair, capsys):
    cache = TeacherCache({}, Shown(118287, 2, 2), MEGABYTES, tmp_path / "kept")
    for _ in range(2):
        assert_known(cache, teacher, pair(), known=False)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 3
    neck = observe(teacher, pair(), frozen=True).neck
    size = amount(118287 * 2 * sum(level[0].numel() * 4 for level in neck))
    assert told[1].startswith(f"teacher's neck of 118287 images would take {size} of memory")
    assert "100 MB are left of --teacher-cache: computed in every step" in told[1]
    assert files(tmp_path / "kept") == []
    assert cache.memory.used == 0


def test_no_more_is_kept_than_allowed(tmp_path, teacher, pair):
    """Two forms of one image are counted on, and four images come."""
    cache = TeacherCache({}, Shown(1, 2, 2), 1, tmp_path / "kept")
    for names in ("ab", "cd", "ef", "gh", "ij", "kl"):
        assert cache.observe(teacher, pair(names)).outputs
        assert cache.observe(teacher, pair(names)).neck
    assert 0 < cache.disk.used <= cache.disk.limit
    assert 0 < cache.memory.used <= cache.memory.limit
    assert sum(path.stat().st_size for path in files(tmp_path / "kept")) <= 1.01 * cache.disk.limit


# --- Whom it is for ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detector", "method", "told"),
    [
        ("ssd300", "soft_labels", "Expand, MinIoURandomCrop, .*PhotoMetricDistortion of its"),
        ("retinanet", None, "no detector teaches this run"),
    ],
)
def test_a_run_that_sees_new_images_in_every_epoch_is_refused(distilled, detector, method, told):
    run = distilled(detector, method or "rm")
    config = run.config if method else run.teacher.config
    with pytest.raises(UserError, match=rf"config.json: {told}.*leave out --teacher-cache"):
        build_runner(config, Path("refused"), teacher_cache_mb=MEGABYTES)
