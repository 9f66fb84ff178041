"""Published checkpoints are read without running or refusing the Python objects in them."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kd.common.errors import UserError
from kd.models import weights
from kd.models.inert import Inert


class Regression(BaseModel):
    """Linear layer, whose loss is the mean of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, *inputs: Any, mode: str = "tensor") -> Any:
        return {"loss": self.layer(inputs[0]).mean()}


class Marker:
    """Object that writes a file when it is unpickled."""

    def __init__(self, path: Path, function: str) -> None:
        self.path, self.function = path, function

    def __reduce__(self) -> Any:
        text = f"open({str(self.path)!r}, 'w').close()"
        if self.function == "os.system":
            import os

            return os.system, (f"touch {self.path}",)
        return {"builtins.exec": exec, "builtins.eval": eval}[self.function], (text,)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint that mmengine's runner wrote, with its optimizer and message hub."""
    folder = tmp_path_factory.mktemp("mmengine")
    data = TensorDataset(torch.ones(4, 2))
    runner = Runner(
        Regression(),
        str(folder),
        train_dataloader=DataLoader(data, batch_size=2),
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
        default_hooks={"checkpoint": {"type": CheckpointHook, "interval": 1}},
        experiment_name="inert",
        log_level="ERROR",
    )
    runner.train()
    return folder / "epoch_1.pth"


def test_a_checkpoint_of_mmengine_is_read(trained: Path) -> None:
    with pytest.raises(UserError, match="contains Python objects"):
        weights.read(trained)
    plain = torch.load(trained, weights_only=False)
    assert isinstance(next(iter(plain["message_hub"]["log_scalars"].values())), HistoryBuffer)
    content = weights.read_published(trained)
    state = weights.state_in(content, trained)
    assert {*state} == {"layer.weight", "layer.bias"}
    for name, tensor in state.items():
        assert torch.equal(tensor, plain["state_dict"][name])
    histories = content["message_hub"]["log_scalars"].values()
    assert histories and all(type(history) is Inert for history in histories)


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_beside_the_weights_are_inert(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "old.pth"
    content = {
        "state_dict": {"weight": torch.arange(3.0)},
        "meta": {"CLASSES": ("disc", "bar"), "best": np.float64(0.5), "shape": np.zeros(2)},
        "hub": HistoryBuffer([1.0], [1]),
        "path": Path("a"),
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(path) == zipped
    read = weights.read_published(path)
    assert torch.equal(read["state_dict"]["weight"], torch.arange(3.0))
    assert weights.class_names(read) == ["disc", "bar"]
    assert type(read["hub"]) is Inert and type(read["path"]) is Inert


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", ["builtins.exec", "builtins.eval", "os.system"])
def test_nothing_of_a_file_runs(tmp_path: Path, function: str, zipped: bool) -> None:
    marker, path = tmp_path / "marker", tmp_path / "bad.pth"
    content = {"state_dict": {"weight": torch.ones(1)}, "hub": Marker(marker, function)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if function == "os.system":  # torch blocks the module
        with pytest.raises(UserError, match="not a checkpoint of plain tensors"):
            weights.read_published(path)
    else:
        content = weights.read_published(path)
        assert torch.equal(content["state_dict"]["weight"], torch.ones(1))
    assert not marker.exists()


def test_an_object_among_the_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    torch.save({"state_dict": {"weight": Path("a")}}, path)
    with pytest.raises(UserError, match="no state dict of tensors"):
        weights.state_in(weights.read_published(path), path)


def test_the_stand_in_ends_with_the_reading(trained: Path) -> None:
    weights.read_published(trained)
    with pytest.raises(UserError, match="contains Python objects"):
        weights.read(trained)
    assert "Inert" not in str(torch.serialization.get_safe_globals())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"a": 1})[:5]])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        weights.read_published(path)
