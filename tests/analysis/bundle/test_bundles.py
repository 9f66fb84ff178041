"""Bundles: what they contain, that equal studies give equal bytes, and what verification finds."""

import gzip
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.bundle.crate import FILE as METADATA
from analysis.bundle.differences import csv_differences, differences
from analysis.bundle.verify import verify_bundle
from analysis.bundle.write import BundleOptions, write_bundle
from kd.cli.main import main
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions
from tests.analysis.bundle.conftest import REASON, Bundled, bundle, tiny_plan


def content(path: Path) -> dict[str, bytes]:
    """Return the files of a bundle by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(path: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write a copy of a bundle whose files were changed."""
    files = content(path)
    change(files)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target


def covered(change: Callable[[dict[str, bytes]], None]) -> Callable[[dict[str, bytes]], None]:
    """Return the change by somebody who also corrects the digests."""

    def apply(files: dict[str, bytes]) -> None:
        change(files)
        document = json.loads(files[METADATA])
        for entity in document["@graph"]:
            if "sha256" in entity:
                entity["sha256"] = hashlib.sha256(files[entity["@id"]]).hexdigest()
        files[METADATA] = json.dumps(document).encode()

    return apply


def student(bundled: Bundled) -> str:
    """Return the directory of the first distilled run."""
    run = next(run for run in bundled.plan.runs.values() if run.method == "rm")
    return run.directory.as_posix()


def lowers_a_score(name: str) -> Callable[[dict[str, bytes]], None]:
    """Return the change that makes one detection the least certain, and moves its box."""

    def apply(files: dict[str, bytes]) -> None:
        columns = json.loads(gzip.decompress(files[name]))
        columns["bbox"][:4] = [0.0, 0.0, 1.0, 1.0]
        files[name] = gzip.compress(json.dumps(columns).encode())

    return apply


def test_a_bundle_agrees_with_itself_far_from_its_project(
    bundled: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copy(bundled.file, tmp_path / "received.zip")
    monkeypatch.chdir(tmp_path)
    result = verify_bundle(Path(copy))
    assert result.differences == []
    assert (result.results, len(result.missing)) == (9, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["received.zip"]


def test_equal_studies_give_equal_bytes(bundled: Bundled, tmp_path: Path) -> None:
    for path in bundled.project.rglob("*.json"):
        path.touch()
    assert bundle(tmp_path / "again.zip").read_bytes() == bundled.file.read_bytes()


def test_one_changed_detection_is_found(bundled: Bundled, tmp_path: Path) -> None:
    name = f"{student(bundled)}/detections.json.gz"
    path = changed(bundled.file, tmp_path / "changed.zip", lowers_a_score(name))
    lines = verify_bundle(path).differences
    assert lines[0] == f"{name}: differs from its digest"
    assert any(line.startswith(f"{student(bundled)}/metrics.json: AP: recorded") for line in lines)


def test_a_changed_detection_with_a_corrected_digest_is_found(
    bundled: Bundled, tmp_path: Path
) -> None:
    name = f"{student(bundled)}/detections.json.gz"
    path = changed(bundled.file, tmp_path / "changed.zip", covered(lowers_a_score(name)))
    lines = verify_bundle(path).differences
    assert not any("digest" in line for line in lines)
    assert any("metrics.json: AP50: recorded" in line for line in lines)
    assert any("resampled.npz: AP of resampled images differs" in line for line in lines)
    assert any("table.csv: row '" in line and "column AP:" in line for line in lines)
    assert any("table.md: line " in line for line in lines)


def test_a_changed_prediction_of_a_classifier_is_found(bundled: Bundled, tmp_path: Path) -> None:
    (classifier,) = bundled.plan.classifiers.values()
    name = f"{classifier.directory}/predictions.json.gz"

    def correct_one(files: dict[str, bytes]) -> None:
        records = json.loads(gzip.decompress(files[name]))
        records[1]["predicted"] = records[1]["label"]  # 5 of 8 are right instead of 4
        files[name] = gzip.compress(json.dumps(records).encode())

    path = changed(bundled.file, tmp_path / "changed.zip", covered(correct_one))
    metrics = f"{classifier.directory}/metrics.json"
    assert f"{metrics}: top1: recorded 0.5, computed 0.625" in verify_bundle(path).differences


def test_a_changed_cell_of_a_table_is_found(bundled: Bundled, tmp_path: Path) -> None:
    folder = "results/tiny/tiny/partial"

    def raise_ap(files: dict[str, bytes]) -> None:
        table = pd.read_csv(io.BytesIO(files[f"{folder}/table.csv"]), dtype=str)
        table.loc[table.row == "RM", "AP"] = "99"
        files[f"{folder}/table.csv"] = table.to_csv(index=False).encode()

    path = changed(bundled.file, tmp_path / "changed.zip", covered(raise_ap))
    (line,) = verify_bundle(path).differences
    assert line.startswith(
        f"{folder}/table.csv: row 'One pair RetinaNet RM', column AP: recorded 99"
    )


def test_an_absent_and_an_added_file_are_found(bundled: Bundled, tmp_path: Path) -> None:
    def swap(files: dict[str, bytes]) -> None:
        files["configs/extra.yaml"] = files.pop("configs/default.yaml")

    path = changed(bundled.file, tmp_path / "changed.zip", swap)
    assert verify_bundle(path).differences == [
        "configs/extra.yaml: is not in the metadata",
        "configs/default.yaml: absent",
    ]


def test_the_command_prints_what_it_verified(
    bundled: Bundled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", "--verify", str(bundled.file)]) == 0
    printed = capsys.readouterr().out
    assert "9 results of runs measured again" in printed and "No difference" in printed
    name = f"{student(bundled)}/detections.json.gz"
    path = changed(bundled.file, tmp_path / "changed.zip", lowers_a_score(name))
    assert main(["bundle", "--verify", str(path)]) == 1
    assert f"\n{name}: differs from its digest\n" in capsys.readouterr().out


# --- Contents --------------------------------------------------------------------------------


def graph_of(path: Path) -> dict[str, dict[str, Any]]:
    document = json.loads(content(path)[METADATA])
    return {entity["@id"]: entity for entity in document["@graph"]}


def test_every_file_has_its_digest_and_size(bundled: Bundled) -> None:
    files, entities = content(bundled.file), graph_of(bundled.file)
    assert {part["@id"] for part in entities["./"]["hasPart"]} == files.keys() - {METADATA}
    for name in files.keys() - {METADATA}:
        assert entities[name]["sha256"] == hashlib.sha256(files[name]).hexdigest()
        assert entities[name]["contentSize"] == str(len(files[name]))


def test_each_run_is_an_action_and_a_failed_one_has_its_reason(bundled: Bundled) -> None:
    entities = graph_of(bundled.file)
    actions = {key: one for key, one in entities.items() if one["@type"] == "CreateAction"}
    runs = [*bundled.plan.classifiers.values(), *bundled.plan.runs.values()]
    assert actions.keys() == {f"#run-{run.directory}" for run in runs} | {"#workflow-run"}
    *_, last = runs
    assert actions[f"#run-{last.directory}"]["error"] == REASON
    distilled = actions[f"#run-{student(bundled)}"]
    teacher = next(iter(bundled.plan.runs.values())).directory
    assert {"@id": f"#weights-{teacher}"} in distilled["object"]
    assert distilled["actionStatus"] == "http://schema.org/CompletedActionStatus"


def test_every_reference_has_its_entity(bundled: Bundled) -> None:
    entities = graph_of(bundled.file)

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [value["@id"]] if value.keys() == {"@id"} else []
        return (
            [name for one in value for name in references(one)] if isinstance(value, list) else []
        )

    targets = {
        name for one in entities.values() for value in one.values() for name in references(value)
    }
    outside = {name for name in targets - entities.keys() if name.startswith("http")}
    assert targets <= entities.keys() | outside
    assert all("/ro/crate/1." in name for name in outside)


def test_ground_truth_has_the_license_of_its_data(bundled: Bundled) -> None:
    entities = graph_of(bundled.file)
    assert entities["truth/shapes-tiny-test.json.gz"]["license"] == {
        "@id": "https://spdx.org/licenses/CC0"
    }
    assert entities["./"]["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    truth = json.loads(gzip.decompress(content(bundled.file)["truth/shapes-tiny-test.json.gz"]))
    assert len(truth["images"]) == 8


def test_weights_are_there_on_request_only(bundled: Bundled, tmp_path: Path) -> None:
    name = f"{student(bundled)}/weights.pth"
    assert name not in content(bundled.file)
    full = bundle(tmp_path / "full.zip", weights=True)
    assert content(full)[name] == (bundled.project / name).read_bytes()
    assert verify_bundle(full).differences == []


def test_the_configurations_in_a_bundle_plan_the_same_runs(
    bundled: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(bundled.file) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [*tiny_plan().runs] == [*bundled.plan.runs]
    assert [path.stem for path in Path("configs/studies").iterdir()] == ["tiny"]


def test_a_bundle_of_selected_rows_has_the_other_rows_that_gains_are_judged_with(
    bundled: Bundled, tmp_path: Path
) -> None:
    options = StudyOptions(seeds=2, methods=["rm"])
    planned = plan("tiny", "tiny", Library(), options)
    written = write_bundle(planned, "tiny", "tiny", BundleOptions(tmp_path / "part.zip"))
    assert (written.finished, written.failed, written.planned) == (5, 0, 5)
    assert any("rm+pfi" in name for name in content(written.path))
    assert verify_bundle(written.path).differences == []


def test_the_readme_states_data_and_command(bundled: Bundled) -> None:
    text = content(bundled.file)["README.md"].decode()
    assert "10 trainings in 5 rows" in text
    assert "\n- shapes-tiny (CC0): test `" in text
    assert "\nsnakemake --config study=tiny scale=tiny seeds=2\n" in text
    assert "\n\nThen start the study" in text


# --- Mistakes --------------------------------------------------------------------------------


def test_a_study_without_runs_is_refused(
    bundled: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no run of study 'tiny' .* snakemake --config study=tiny"):
        bundle(tmp_path / "none.zip")
    assert not Path("none.zip").exists()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("detections.json.gz", "so metrics.json cannot be verified; predict again: kd predict"),
        ("weights.pth", "bundle without --weights"),
    ],
)
def test_a_run_that_lacks_a_file_is_refused(
    bundled: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, message: str
) -> None:
    copy = shutil.copytree(bundled.project, tmp_path / "project")
    monkeypatch.chdir(copy)
    Path(student(bundled), file).unlink()
    with pytest.raises(UserError, match=message):
        bundle(tmp_path / "none.zip", weights=True)


def test_metrics_of_other_detections_are_refused(
    bundled: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(bundled.project, tmp_path / "project"))
    path = Path(student(bundled), "detections.json.gz")
    path.write_bytes(gzip.compress(b"[]"))
    with pytest.raises(UserError, match="the detections changed since; predict again"):
        bundle(tmp_path / "none.zip")


def test_absent_data_are_refused(
    bundled: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(bundled.project, tmp_path / "project"))
    shutil.rmtree("data")
    with pytest.raises(UserError, match="data/shapes-tiny"):
        bundle(tmp_path / "none.zip")


@pytest.mark.parametrize("name", ["/evil", "../evil", "results/../../evil"])
def test_a_file_outside_the_bundle_is_refused(bundled: Bundled, tmp_path: Path, name: str) -> None:
    path = changed(bundled.file, tmp_path / "evil.zip", lambda files: files.update({name: b""}))
    with pytest.raises(UserError, match="is outside the bundle"):
        verify_bundle(path)


def test_other_files_are_refused(bundled: Bundled, tmp_path: Path) -> None:
    text = tmp_path / "text.zip"
    text.write_text("not a bundle")
    with pytest.raises(UserError, match="not a bundle, or damaged"):
        verify_bundle(text)
    path = changed(bundled.file, tmp_path / "bare.zip", lambda files: files.pop(METADATA))
    with pytest.raises(UserError, match=f"has no {METADATA}"):
        verify_bundle(path)

    def forget(files: dict[str, bytes]) -> None:
        files[f"{student(bundled)}/run.json"] = b"[]"

    path = changed(bundled.file, tmp_path / "nameless.zip", forget)
    with pytest.raises(UserError, match=r"run\.json: names no data set"):
        verify_bundle(path)

    def renew(files: dict[str, bytes]) -> None:
        files["rows.json"] = files["rows.json"].replace(b'"label"', b'"tag"', 1)

    path = changed(bundled.file, tmp_path / "newer.zip", covered(renew))
    with pytest.raises(UserError, match="verify the bundle with the version"):
        verify_bundle(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a study, or a bundle with --verify"),
        (["tiny", "--verify", "tiny.zip"], "name no study"),
        (["--verify", "absent.zip"], "absent.zip: no such file"),
    ],
)
def test_mistaken_command_lines(
    bundled: Bundled, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["bundle", *words]) == 2
    assert message in capsys.readouterr().err


# --- Differences -----------------------------------------------------------------------------


def test_differences_name_the_key_and_both_values() -> None:
    recorded = {"AP": 0.25, "AP50": None, "per_class": {"cat": {"AP": 0.5}}, "images": 8}
    computed = recorded | {"per_class": {"cat": {"AP": 0.5 + 1e-6}}, "new": 1}
    (line,) = differences(recorded, computed)
    assert line == "per_class.cat.AP: recorded 0.5, computed 0.500001"
    assert [*differences({"AP": 0.25}, {"AP": 0.25 * (1 + 1e-12)})] == []
    assert [*differences({"AP": None}, {"AP": 0.0})] == ["AP: recorded None, computed 0"]


def test_differences_of_tables_name_row_and_column() -> None:
    header = "table,group,row,setting,AP\n"
    (line,) = csv_differences(f"{header}T1,GFL,RM,,22.31\n", f"{header}T1,GFL,RM,,22.30\n")
    assert line == "row 'T1 GFL RM', column AP: recorded 22.31, computed 22.30"
    assert [*csv_differences(header, f"{header}T1,GFL,RM,,1\n")] == ["0 rows recorded, 1 computed"]
