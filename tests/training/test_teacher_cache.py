"""Cache of the teacher's outputs: bit-identical trainings, limits of size, and damaged files."""

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
from kd.training.teacher_cache import FOLDER, TeacherCache, TeacherInputs, amount
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
    """Return a function that plans a run of three epochs that logs every step."""

    def plan_run(detector: str, method: str, batch_size: int = 5) -> Run:
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

    return plan_run


def train(run: Run, name: str, megabytes: int = MEGABYTES, **options: Any) -> Any:
    """Train in a folder; return the runner, whose ``teacher_ran`` counts runs of the teacher."""
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
    first, second = (str(Path(trainer.work_dir).parent) for trainer in (runner, other))
    assert log(first) == log(second)
    assert len(log(first)) == runner.max_iters


def files(folder: Path = FOLDER) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


# --- The same training ---------------------------------------------------------------------


@pytest.mark.parametrize(("detector", "method"), CASES, ids=map("-".join, CASES))
def test_a_cache_changes_no_loss_and_no_weight(distilled, detector, method):
    run = distilled(detector, method)
    plain, cached = train(run, "plain", 0), train(run, "cached")
    assert_same(plain, cached)
    assert plain.teacher_ran == EPOCHS * STEPS
    assert cached.teacher_ran == 2 * STEPS  # in the first epoch, on each batch and its mirror image


def test_a_cache_changes_nothing_if_the_last_batch_is_smaller(distilled):
    run = distilled("retinanet", "rm+pfi", batch_size=4)
    assert_same(train(run, "plain", 0), train(run, "cached"))


def test_a_cache_changes_nothing_with_several_loader_workers(distilled):
    run = distilled("retinanet", "rm+pfi")
    assert_same(train(run, "plain", 0), train(run, "cached", workers=2))


def test_a_resumed_training_with_a_cache_equals_an_uninterrupted_one(distilled, monkeypatch):
    run = distilled("retinanet", "rm+pfi")
    plain = train(run, "plain", 0)
    make_step = ResumableEpochLoop.run_iter

    def stop_before_step_4(loop: Any, *arguments: Any) -> None:
        if loop.iter == 3:
            raise KeyboardInterrupt
        make_step(loop, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ResumableEpochLoop, "run_iter", stop_before_step_4)
        with pytest.raises(KeyboardInterrupt):
            train(run, "cached")
    assert_same(plain, train(run, "cached"))


def test_the_next_run_reads_logits_and_boxes_from_disk(distilled, capsys):
    run = distilled("retinanet", "rm")
    plain = train(run, "plain", 0)
    train(run, "first")
    second = train(run, "second")
    assert_same(plain, second)
    assert second.teacher_ran == 0
    printed = capsys.readouterr().out
    assert "teacher outputs: 100 % of 12 batches were cached; 0 kB of memory" in printed


# --- Another teacher, image or transform ---------------------------------------------------


def test_a_retrained_teacher_is_computed_again(distilled):
    run = distilled("retinanet", "rm")
    train(run, "first")
    path = run.teacher.directory / "weights.pth"
    state = weights.read_state(path)
    state["bbox_head.retina_cls.bias"] += 1
    weights.save(path, {"state_dict": state})
    assert_same(train(run, "plain", 0), train(run, "cached"))
    assert len({file.parent for file in files()}) == 2


@pytest.fixture
def teacher(build: Callable[..., Any]) -> Any:
    return build("retinanet").requires_grad_(False).eval()


@pytest.fixture
def cache(tmp_path: Path) -> TeacherCache:
    return new_cache(tmp_path)


def new_cache(folder: Path, megabytes: int = MEGABYTES, **settings: Any) -> TeacherCache:
    """Return a cache for batches of two; all images share the settings."""
    return TeacherCache(settings, TeacherInputs(4, 2, 2), megabytes, folder / "cache")


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., Batch]:
    """Return a function that builds a batch of two images, by default of 64 x 96 pixels.

    ``names``: one letter for the file of each image, which is also the content of the file.
    """

    def build_pair(
        names: str = "ab", sizes: tuple[tuple[int, int], ...] = ((64, 96),) * 2, flip: bool = False
    ) -> Batch:
        padded = [-(-max(sides) // 32) * 32 for sides in zip(*sizes, strict=True)]
        inputs, samples = torch.zeros(2, 3, *padded), []
        for pixels, name, (height, width) in zip(inputs, names, sizes, strict=True):
            image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(ord(name)))
            pixels[:, :height, :width] = image.flip(-1) if flip else image
            path = tmp_path / f"{name}.png"
            path.write_text(name)
            metainfo = {"img_path": str(path), "img_shape": (height, width), "flip": flip}
            samples.append(DetDataSample(metainfo=metainfo))
        return Batch(inputs, samples)

    return build_pair


def flat(observation: Any) -> list[torch.Tensor]:
    """Return all maps and outputs of an observation in one list."""
    maps = [*observation.stages, *observation.neck]
    return maps + [level for kind in observation.outputs for level in kind]


def assert_cached(cache: TeacherCache, teacher: Any, batch: Batch, cached: bool = True) -> None:
    """Check that the cache returns the teacher's outputs, and whether the teacher ran."""
    hits, lookups = cache.hits, cache.lookups
    outputs = flat(cache.observe(teacher, batch))
    assert all(map(torch.equal, outputs, flat(observe(teacher, batch, frozen=True))))
    assert (cache.hits - hits, cache.lookups - lookups) == (3 if cached else 0, 3)


def test_both_forms_of_an_image_are_cached_after_one_batch(cache, teacher, pair):
    assert_cached(cache, teacher, pair(), cached=False)
    assert_cached(cache, teacher, pair())
    assert_cached(cache, teacher, pair(flip=True))
    assert_cached(cache, teacher, pair("ba", flip=True))


def test_a_smaller_image_is_mirrored_within_its_padding(cache, teacher, pair):
    small = ((40, 48),) * 2
    assert_cached(cache, teacher, pair(sizes=small), cached=False)
    assert_cached(cache, teacher, pair(sizes=small, flip=True))


def test_images_of_one_batch_are_cached_for_another(cache, teacher, pair):
    assert_cached(cache, teacher, pair("ab"), cached=False)
    assert_cached(cache, teacher, pair("cd"), cached=False)
    assert_cached(cache, teacher, pair("da"))
    assert_cached(cache, teacher, pair("de"), cached=False)


def test_an_image_in_other_padding_is_computed_again(cache, teacher, pair):
    small, mixed = ((40, 48),) * 2, ((40, 48), (64, 96))
    assert_cached(cache, teacher, pair("ab", small), cached=False)
    assert_cached(cache, teacher, pair("ac", mixed), cached=False)
    assert_cached(cache, teacher, pair("ac", mixed))


def test_mirror_images_of_mixed_sizes_are_not_computed_ahead(cache, teacher, pair):
    mixed = ((40, 48), (64, 96))
    assert_cached(cache, teacher, pair("ac", mixed), cached=False)
    assert_cached(cache, teacher, pair("ac", mixed, flip=True), cached=False)
    assert_cached(cache, teacher, pair("ac", mixed, flip=True))


def test_another_image_under_the_same_name_is_computed_again(tmp_path, teacher, pair):
    assert_cached(new_cache(tmp_path), teacher, pair(), cached=False)
    other = pair()
    (tmp_path / "b.png").write_text("changed")
    observation = new_cache(tmp_path).observe(teacher, replace(other, inputs=other.inputs + 1))
    expected = observe(teacher, replace(other, inputs=other.inputs + 1), frozen=True).outputs[0]
    assert all(map(torch.equal, observation.outputs[0], expected))


@pytest.mark.parametrize(
    "settings", [{"weights_sha256": "1"}, {"pipelines": 1}, {"preprocessor": 1}]
)
def test_other_settings_have_separate_files(tmp_path, teacher, pair, settings):
    assert new_cache(tmp_path).observe(teacher, pair()).outputs
    other = new_cache(tmp_path, **settings)
    assert other.observe(teacher, pair()).outputs
    assert other.hits == 0
    assert json.loads((other.disk.folder / "setting.json").read_text()).items() >= settings.items()


def test_half_precision_does_not_use_files_of_full_precision(tmp_path, teacher, pair):
    assert_cached(new_cache(tmp_path), teacher, pair(), cached=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert_cached(new_cache(tmp_path), teacher, pair(), cached=False)
        half = new_cache(tmp_path)
        observation = half.observe(teacher, pair())
    assert observation.outputs[0][0].dtype == torch.bfloat16  # read after autocast, as terms do
    assert half.hits == 1
    expected = observe(teacher, pair(), frozen=True).outputs[0][0]
    assert observation.outputs[0][0].float() == pytest.approx(expected, abs=0.1)


def test_mirror_images_are_computed_in_the_precision_of_the_step(cache, teacher, pair):
    with torch.autocast("cpu", torch.bfloat16):
        observation = cache.observe(teacher, pair())
    assert observation.outputs  # outside of autocast, as terms read
    with torch.autocast("cpu", torch.bfloat16):
        mirrored = cache.observe(teacher, pair(flip=True)).outputs[0]
        expected = observe(teacher, pair(flip=True), frozen=True).outputs[0]
    assert cache.hits == 1
    assert all(map(torch.equal, mirrored, expected))


def test_cached_maps_keep_the_memory_format_of_the_teacher(tmp_path, teacher, pair):
    batch = pair()
    batch = replace(batch, inputs=batch.inputs.to(memory_format=torch.channels_last))
    plain = flat(observe(teacher.to(memory_format=torch.channels_last), batch, frozen=True))
    cache = new_cache(tmp_path)
    for _ in range(2):
        outputs = flat(cache.observe(teacher, batch))
        assert [m.is_contiguous() for m in outputs] == [m.is_contiguous() for m in plain]
        assert all(map(torch.equal, outputs, plain))
    assert cache.hits == 3


def test_a_batch_of_another_size_is_not_cached(cache, teacher, pair):
    batch = pair()
    alone = Batch(batch.inputs[:1], batch.samples[:1])
    for _ in range(2):
        expected = flat(observe(teacher, alone, frozen=True))
        assert all(map(torch.equal, flat(cache.observe(teacher, alone)), expected))
    assert cache.lookups == 0


# --- Cached maps and damaged files ----------------------------------------------------------


def test_a_term_that_changes_cached_maps_does_not_change_the_cache(cache, teacher, pair):
    for _ in range(3):
        for level in flat(cache.observe(teacher, pair())):
            level.zero_()
    assert_cached(cache, teacher, pair())
    assert_cached(cache, teacher, pair(flip=True))


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "flipped bit", "other text", "other name", "no checksum"]
)
def test_a_damaged_file_is_computed_again_with_a_warning(tmp_path, teacher, pair, capsys, damage):
    assert_cached(new_cache(tmp_path), teacher, pair(), cached=False)
    path = files(tmp_path / "cache")[0]
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
        outputs = new_cache(tmp_path).observe(teacher, pair(flip=flip)).outputs[0]
        expected = observe(teacher, pair(flip=flip), frozen=True).outputs[0]
        assert all(map(torch.equal, outputs, expected))
    warnings = capsys.readouterr().err
    assert warnings.count("\n") == 1
    assert f"warning: {path}: cannot be read" in warnings
    assert path.read_bytes() == content


def test_training_continues_if_nothing_can_be_written(tmp_path, teacher, pair, capsys):
    (tmp_path / "cache").write_text("in the way")
    cache = new_cache(tmp_path)
    for names in ("ab", "cd"):
        expected = observe(teacher, pair(names), frozen=True).outputs[0]
        assert all(map(torch.equal, cache.observe(teacher, pair(names)).outputs[0], expected))
    warnings = capsys.readouterr().err
    assert warnings.count("\n") == 1
    assert "training continues without caching more of them" in warnings


def test_maps_larger_than_the_limit_are_computed_in_every_step(tmp_path, teacher, pair, capsys):
    cache = TeacherCache({}, TeacherInputs(118287, 2, 2), MEGABYTES, tmp_path / "cache")
    for _ in range(2):
        assert_cached(cache, teacher, pair(), cached=False)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    neck = observe(teacher, pair(), frozen=True).neck
    size = amount(118287 * 2 * sum(level[0].numel() * 4 for level in neck))
    assert printed[1].startswith(f"teacher's neck: 118287 images need {size} of memory")
    assert "--teacher-cache has 100 MB left; computing it in every step" in printed[1]
    assert files(tmp_path / "cache") == []
    assert cache.memory.used == 0


def test_the_stores_keep_to_their_limits(tmp_path, teacher, pair):
    """The cache reserves space for two forms of one image and then observes twelve images."""
    cache = TeacherCache({}, TeacherInputs(1, 2, 2), 1, tmp_path / "cache")
    for names in ("ab", "cd", "ef", "gh", "ij", "kl"):
        assert cache.observe(teacher, pair(names)).outputs
        assert cache.observe(teacher, pair(names)).neck
    assert 0 < cache.disk.used <= cache.disk.limit
    assert 0 < cache.memory.used <= cache.memory.limit
    assert sum(path.stat().st_size for path in files(tmp_path / "cache")) <= 1.01 * cache.disk.limit


# --- Runs that cannot use a cache -----------------------------------------------------------


@pytest.mark.parametrize(
    ("detector", "method", "problem"),
    [
        ("ssd300", "soft_labels", "Expand, MinIoURandomCrop, .*PhotoMetricDistortion of its"),
        ("retinanet", None, "this run has no detector as a teacher"),
    ],
)
def test_a_run_that_sees_new_images_in_every_epoch_is_refused(distilled, detector, method, problem):
    run = distilled(detector, method or "rm")
    config = run.config if method else run.teacher.config
    with pytest.raises(UserError, match=rf"config.json: {problem}.*leave out --teacher-cache"):
        build_runner(config, Path("refused"), teacher_cache_mb=MEGABYTES)
