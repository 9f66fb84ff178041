"""A classifier: its losses, weights, bit-exact resumption and accuracy."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from mmdet.registry import MODELS
from torch import nn

import kd.runtime  # noqa: F401
from kd.classifiers.evaluation import PREDICTIONS, accuracy
from kd.classifiers.model import focal_loss, load_imagenet
from kd.cli.main import main
from kd.common.errors import UserError
from kd.config.classifiers import compose_classifier
from kd.config.library import Library
from kd.config.run import ClassifierRun
from kd.models import imagenet, weights
from kd.training.train import train
from tests.support.paths import REPOSITORY
from tests.support.tiny import CLASSES, copy_run, edit
from tests.support.training import assert_same, interrupted_before
from tests.test_imports import COMMAND_LINE, heavy_modules
from tests.workflow.test_workflow import snakemake

torch.set_num_threads(1)

LOGITS, LABELS = torch.tensor([[2.0, 0.0, -1.0], [1.0, 0.0, 0.0]]), torch.tensor([0, 2])


def classifier(**changes: Any) -> Any:
    settings: dict[str, Any] = {
        "type": "ObjectClassifier", "architecture": "resnet18", "classes": 3, "size": 40,
        "loss": "cross_entropy", "init": "scratch", "mean": [10, 20, 30], "std": [1, 2, 4],
    }  # fmt: skip
    return MODELS.build(settings | changes)


# Losses


def by_hand() -> tuple[float, float]:
    """Return cross-entropy and focal loss of LOGITS and LABELS, averaged over the two crops."""
    ln, e = math.log, math.e
    cross_entropy = (ln(e**2 + 1 + e**-1) - 2) + (ln(e + 2) - 0)

    def sigmoid(x: float) -> float:
        return 1 / (1 + e**-x)

    def term(x: float, is_target: bool) -> float:
        p = sigmoid(x) if is_target else 1 - sigmoid(x)
        return (0.25 if is_target else 0.75) * (1 - p) ** 2 * -ln(p)

    focal = term(2, True) + term(0, False) + term(-1, False)
    focal += term(1, False) + term(0, False) + term(0, True)
    return cross_entropy / 2, focal / 2


def test_the_focal_loss_is_that_of_the_paper() -> None:
    assert focal_loss(LOGITS[:1], LABELS[:1]).item() == pytest.approx(0.1474, abs=1e-4)
    assert focal_loss(LOGITS, LABELS).item() == pytest.approx(by_hand()[1])


@pytest.mark.parametrize(
    ("loss", "parts"),
    [("cross_entropy", [0]), ("focal", [1]), ("cross_entropy+focal", [0, 1])],
)
def test_losses_add_up(loss: str, parts: list[int]) -> None:
    model = classifier(loss=loss)
    model.network.forward = lambda inputs: LOGITS
    losses = model(torch.zeros(2, 3, 40, 40), LABELS, mode="loss")
    total, log = model.parse_losses(losses)
    assert total.item() == pytest.approx(sum(by_hand()[part] for part in parts))
    assert len(log) == len(parts) + 1


def test_inputs_are_normalized() -> None:
    model = classifier()
    model.network = nn.Identity()
    normalized = model(torch.full((1, 3, 2, 2), 50.0))
    assert normalized[0, :, 0, 0].tolist() == [40, 15, 5]
    assert {*model.state_dict()} == set()  # the statistics are settings, not weights


# Weights


def test_an_unknown_architecture_is_one_clear_error() -> None:
    with pytest.raises(UserError, match=r"classifier 'resnet81'; did you mean 'resnet18'"):
        classifier(architecture="resnet81")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], nn.Module]:
    """Return a function that makes random weights of a network ImageNet's weights."""

    def saved(name: str) -> nn.Module:
        network = torchvision.models.get_model(name)
        torch.save(network.state_dict(), tmp_path / "net.pth")
        monkeypatch.setattr(imagenet, "find", lambda _: tmp_path / "net.pth")
        return network

    return saved


@pytest.mark.parametrize(("name", "last"), [("resnet18", "fc."), ("mobilenet_v2", "classifier.1.")])
def test_imagenet_weights_fill_all_but_the_last_layer(
    published: Callable[[str], nn.Module], name: str, last: str
) -> None:
    source = published(name).state_dict()
    model = classifier(architecture=name, init="imagenet")
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    model.init_weights()
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, (before if key.startswith(last) else source)[key])


def test_weights_of_another_network_are_refused(published: Callable[[str], nn.Module]) -> None:
    published("mobilenet_v2")
    with pytest.raises(UserError, match="ImageNet weights do not fit resnet18"):
        load_imagenet(torchvision.models.resnet18(num_classes=3), "resnet18")


def test_weights_from_scratch_are_not_changed() -> None:
    model = classifier()
    before = model.network.conv1.weight.clone()
    model.init_weights()
    assert torch.equal(model.network.conv1.weight, before)


# Composition


def test_a_title_is_no_part_of_a_run(compose: Callable[..., ClassifierRun]) -> None:
    assert compose().name == compose(title="other").name
    others = {compose(**changes).name for changes in ({"loss": "focal"}, {"size": 48}, {})}
    assert len(others) == 3


def test_the_directory_of_a_run_is_its_name(compose: Callable[..., ClassifierRun]) -> None:
    run = compose(size=48)  # one that no other test has written and changed
    start = "results/classifiers/tiny/shapes-tiny/classifier-tiny/changed/seed0-"
    assert str(run.directory) == start + run.digest
    assert json.loads((run.directory / "config.json").read_text()) == run.config
    assert run.identity["classifier"] == "changed"


@pytest.mark.parametrize("name", Library(REPOSITORY / "configs").names("classifiers"))
def test_the_shipped_classifiers_compose(name: str) -> None:
    library = Library(REPOSITORY / "configs")
    for dataset in ("coco2017", "voc0712", "shapes-smoke"):
        config = compose_classifier(name, dataset, 0, library, "tests")
        assert config["model"]["classes"] == len(library.dataset(dataset, "tests").classes)


def test_a_wrong_setting_is_one_clear_error(
    cut: ClassifierRun, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("configs/classifiers/tiny.yaml")
    content = path.read_text()
    cases = {
        "family": ("sdd", "key 'family': must be 'general' or 'ssd', not 'sdd'"),
        "loss": ("focal+cross_entropy", "key 'loss'"),
        "schedule": ("classifer", "key 'schedule': no 'classifer'"),
        "archtecture": ("x", "did you mean 'architecture'?"),
    }
    for key, (value, message) in cases.items():
        edit(path, **{key: value})
        assert main(["classifier", "tiny", "shapes-tiny", "--scale", "tiny"]) == 2
        path.write_text(content)
        assert message in capsys.readouterr().err
    assert main(["classifier", "tiny", "shapes-tinny", "--scale", "tiny"]) == 2
    assert "did you mean 'shapes-tiny'?" in capsys.readouterr().err


def test_composing_and_cutting_import_no_torch(cut: ClassifierRun) -> None:
    for arguments in (
        ["classifier", "tiny", "shapes-tiny", "--scale", "tiny"],
        ["crops", str(cut.crops.directory)],
    ):
        assert heavy_modules(COMMAND_LINE, *arguments) == set()


# Training


def test_ap_between_epochs_of_a_classifier_is_refused_before_the_first(
    cut: ClassifierRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(cut.directory), "--val-interval", "1"]) == 2
    error = capsys.readouterr().err
    assert f"{cut.directory}/config.json: a classifier has no AP" in error
    assert "leave out --val-interval" in error and error.count("\n") == 1
    assert not (cut.directory / "log.jsonl").exists()
    (cut.directory / "failure.json").unlink()


@pytest.fixture(scope="module")
def trained(cut: ClassifierRun) -> Path:
    """Return the tiny run, trained without interruption."""
    path = cut.directory / "config.json"
    config = json.loads(path.read_text())
    config["custom_hooks"][2]["interval"] = 1  # of StepLog
    path.write_text(json.dumps(config))
    train(cut.directory)
    return cut.directory


def test_training_writes_its_log_and_provenance(trained: Path) -> None:
    lines = (trained / "log.jsonl").read_text().splitlines()
    for line in lines:
        entry = json.loads(line)
        terms = entry["loss_cross_entropy"] + entry["loss_focal"]
        assert entry["loss"] == pytest.approx(terms, rel=1e-5)
    record = json.loads((trained / "provenance.json").read_text())
    assert record["steps"] == len(lines) > 8
    state = weights.read_state(trained / "weights.pth")
    assert state["network.fc.weight"].shape == (8, 1024)


@pytest.mark.parametrize("stop", [3, -2], ids=["in the first epoch", "in the last"])
def test_a_resumed_run_equals_an_uninterrupted_one(trained: Path, stop: int) -> None:
    run = copy_run(trained, f"stopped{stop}")
    steps = (trained / "log.jsonl").read_text().count("\n")
    with interrupted_before(stop % steps):
        train(run)
    train(run, workers=1)
    assert_same(run, trained)


def test_a_batch_in_parts_makes_as_many_steps(trained: Path) -> None:
    run = copy_run(trained, "in-parts")
    train(run, accumulate=2)
    steps, whole = (
        [json.loads(line)["step"] for line in (path / "log.jsonl").read_text().splitlines()]
        for path in (run, trained)
    )
    assert steps == whole


def test_absent_crops_stop_training_with_their_remedy(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_run(trained, "cropless")
    config = json.loads((run / "config.json").read_text())
    config["train_dataloader"]["dataset"]["dataset"]["folder"] = "results/crops/gone-0"
    (run / "config.json").write_text(json.dumps(config))
    assert main(["train", str(run)]) == 2
    assert "make them: kd crops results/crops/gone-0" in capsys.readouterr().err
    assert "no complete crops" in json.loads((run / "failure.json").read_text())["reason"]


# Accuracy


def test_accuracy_by_hand() -> None:
    pairs = [(0, 0), (0, 0), (0, 1), (0, 0), (1, 1), (1, 0), (3, 3)]
    metrics = accuracy([{"label": a, "predicted": b} for a, b in pairs], ["a", "b", "c", "d"])
    assert metrics == {
        "top1": 5 / 7,
        "mean_per_class": (3 / 4 + 1 / 2 + 1) / 3,
        "crops": 7,
        "correct": 5,
        "per_class": {
            "a": {"crops": 4, "correct": 3, "accuracy": 3 / 4},
            "b": {"crops": 2, "correct": 1, "accuracy": 1 / 2},
            "c": {"crops": 0, "correct": 0, "accuracy": None},
            "d": {"crops": 1, "correct": 1, "accuracy": 1.0},
        },
    }


def test_a_run_is_measured_on_the_test_split(trained: Path) -> None:
    from mmengine.registry import DefaultScope

    from kd.data.sampling import build_dataset

    (trained / PREDICTIONS).unlink(missing_ok=True)
    assert main(["evaluate", str(trained)]) == 2
    assert main(["predict", str(trained)]) == 0
    assert main(["evaluate", str(trained)]) == 0
    metrics = json.loads((trained / "metrics.json").read_text())
    assert list(metrics["per_class"]) == CLASSES

    config = json.loads((trained / "config.json").read_text())
    DefaultScope.get_instance("measured", scope_name="mmdet")
    dataset = build_dataset(config["test_dataloader"]["dataset"])
    model = weights.load_frozen(config["model"], trained / "weights.pth")
    predicted = [int(model(dataset[i]["inputs"][None]).argmax()) for i in range(len(dataset))]
    correct = sum(a == b for a, b in zip(predicted, dataset.labels, strict=True))
    assert metrics["correct"] == correct
    assert metrics["top1"] == correct / len(dataset)
    records = json.loads(gzip.decompress((trained / PREDICTIONS).read_bytes()))
    assert [record["predicted"] for record in records] == predicted


def test_damaged_predictions_are_one_clear_error(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_run(trained, "damaged")
    (run / PREDICTIONS).write_bytes(b"half")
    assert main(["evaluate", str(run)]) == 2
    assert "cannot be read" in capsys.readouterr().err


# Workflow


def test_a_composed_run_has_rules(compose: Callable[..., ClassifierRun], project: Path) -> None:
    run = compose(size=56, margin=0.5)
    result = snakemake(project, "--dry-run", str(run.directory / "metrics.json"))
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    for rule in ("check_data", "crops", "train_classifier", "evaluate_classifier"):
        assert output.count(f"{rule}:\n") == 1
    assert str(run.crops.directory / "train.json") in output
