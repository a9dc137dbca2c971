"""The commands: what they write, what they print, how they fail."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import call
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from anchordetr import Detector, list_models
from anchordetr.cli.main import run

SMALL = {
    "model.backbone": "test_resnet.r160_in1k",
    "model.embed_dim": "32",
    "model.num_heads": "4",
    "model.encoder_layers": "1",
    "model.decoder_layers": "1",
    "model.num_anchors": "9",
    "model.ffn_dim": "32",
    "data.short_side": "48",
    "data.train_short_sides": "[48]",
}


def train_arguments(data: object, output: Path) -> list[object]:
    changes = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    options = ["--epochs", 1, "--batch-size", 4, "--workers", 0, "--device", "cpu"]
    return ["train", "--data", data, "--model", "anchordetr_tiny", "--output-dir", output, *options, *changes]


@pytest.fixture(scope="module")
def run_folder(coco_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert call(*train_arguments(coco_folder, folder)) == 0
    return folder


def test_eval_prints_what_the_training_logged(
    run_folder: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("eval", "--weights", run_folder, "--data", coco_folder, "--output-dir", tmp_path, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    logged = json.loads((run_folder / "log.jsonl").read_text().splitlines()[0])
    assert {name: logged[name] for name in printed} == printed
    assert json.loads((tmp_path / "metrics.json").read_text()) == printed


def test_eval_writes_what_was_detected(run_folder: Path, coco_folder: Path, tmp_path: Path) -> None:
    options = ["--batch-size", 3, "--precision", "bf16", "--set", "data.short_side=32"]
    assert call("eval", "--weights", run_folder, "--data", coco_folder, "--output-dir", tmp_path, *options) == 0
    results = json.loads((tmp_path / "detections.json").read_text())
    truth = COCO(coco_folder / "annotations" / "instances_val.json")
    found = COCOeval(truth, truth.loadRes(str(tmp_path / "detections.json")), "bbox")
    found.evaluate()
    found.accumulate()
    found.summarize()
    assert found.stats[0] == pytest.approx(json.loads((tmp_path / "metrics.json").read_text())["ap"])
    names = {category["id"]: category["name"] for category in truth.dataset["categories"]}
    files = {image["id"]: image["file_name"] for image in truth.dataset["images"]}
    assert results
    for result in results:
        assert result["class_name"] == names[result["category_id"]]
        assert result["file_name"] == files[result["image_id"]]
    assert call("eval", "--weights", run_folder, "--data", coco_folder, "--precision", "fp8") == 2


def test_eval_shows_its_progress_on_a_terminal(
    run_folder: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    arguments = ["eval", "--weights", run_folder, "--data", coco_folder, "--output-dir", tmp_path, "--json"]
    assert call(*arguments) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert call(*arguments) == 0
    printed = capsys.readouterr()
    assert "4/4" in printed.err
    assert "ap50" in json.loads(printed.out)


def test_eval_prints_cocos_table(
    run_folder: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("eval", "--weights", run_folder, "--data", coco_folder, "--output-dir", tmp_path, "--plots") == 0
    assert {"precision_recall.png", "confusion_matrix.png"} <= {file.name for file in tmp_path.iterdir()}
    printed = capsys.readouterr().out
    assert "0.50:0.95" in printed
    assert "rectangle" in printed


def test_eval_prints_its_numbers_before_anything_can_fail(
    run_folder: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.json").mkdir()
    assert call("eval", "--weights", run_folder, "--data", coco_folder, "--output-dir", tmp_path, "--json") == 1
    printed = capsys.readouterr()
    assert "ap50" in json.loads(printed.out)
    assert "metrics.json" in printed.err
    assert (
        call("eval", "--weights", run_folder, "--data", coco_folder, "--output-dir", tmp_path / "metrics.json/x") == 0
    )


def test_a_recipe_is_the_base_that_other_options_change(
    coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*train_arguments(coco_folder, tmp_path), "--recipe", "finetune", "--lr", 0.01]
    assert call(*arguments) == 0
    config = Detector.from_pretrained(tmp_path, device="cpu").config
    assert (config.train.schedule, config.model.denoising_groups) == ("cosine", 8)
    assert (config.train.lr, config.train.epochs) == (0.01, 1)
    assert call(*train_arguments(coco_folder, tmp_path / "other"), "--recipe", "fine") == 2
    assert "Unknown recipe 'fine'" in capsys.readouterr().err


def test_predict_writes_results_and_images(
    run_folder: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--weights", run_folder, "--output-dir", tmp_path, "--threshold", 0.0]
    assert call("predict", coco_folder / "val", *arguments) == 0
    results = json.loads((tmp_path / "predictions.json").read_text())
    assert {result["image_id"] for result in results} == {1, 2, 3, 4}
    assert {result["category_id"] for result in results} <= {3, 7, 20}
    assert results[0]["file_name"].endswith("shapes_val_00000.png")
    assert len(list(tmp_path.glob("*.jpg"))) == 4
    assert "shapes_val_00003.png" in capsys.readouterr().out


def test_a_budget_from_the_shell(
    run_folder: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = coco_folder / "val" / "shapes_val_00000.png"
    arguments = ["--weights", run_folder, "--output-dir", tmp_path, "--anchors", 4, "--layers", 1]
    for patterns, queries in (("2", 8), ("1", 4), ("1,", 4), ("0, 1", 8)):
        assert call("predict", image, *arguments, "--overwrite", "--threshold", 0.0, "--patterns", patterns) == 0
        assert len(json.loads((tmp_path / "predictions.json").read_text())) == queries * 3
    assert call("eval", "--data", "shapes", *arguments, "--patterns", "1,") == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["ap"] >= 0
    capsys.readouterr()
    for options, message in (
        (["--patterns", "one"], "--patterns one is not a whole number"),
        (["--patterns", "0,2"], "patterns names 0, 2; this model has the patterns 0, 1"),
        (["--anchors", 10], "anchors is 10; this model has 9, choose from 1 to 9."),
    ):
        assert call("predict", image, *arguments, "--overwrite", *options) == 2
        assert message in capsys.readouterr().err


def test_benchmark_budget(
    run_folder: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--weights", run_folder, "--data", coco_folder, "--rounds", 1, "--device", "cpu"]
    assert call("benchmark", "budget", *options, "--output", tmp_path / "new" / "budget.json", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "new" / "budget.json").read_text()) == printed
    rows = printed["budgets"]
    assert [row["anchors"] for row in rows[:3]] == [9, 5, 3]
    assert sorted({tuple(row["patterns"]) for row in rows}) == [(0,), (0, 1), (1,)]
    assert rows[0]["queries"] == 18
    assert printed["image"] == [64, 64]
    evaluate = ["eval", "--weights", run_folder, "--data", coco_folder, "--output-dir", tmp_path, "--json"]
    assert call(*evaluate, "--anchors", 5) == 0
    assert json.loads(capsys.readouterr().out)["ap50"] == rows[1]["ap50"]
    pytest.importorskip("matplotlib", reason="needs the extra anchordetr[plots]")
    assert call("benchmark", "budget", *options, "--anchors", "9,2", "--plot", tmp_path / "budget.svg") == 0
    assert "speed-up" in capsys.readouterr().out
    assert "2 anchors, patterns 0, 1" in (tmp_path / "budget.svg").read_text()
    assert call("benchmark", "budget", *options, "--layers", "2") == 2
    assert "layers is 2; this model has 1" in capsys.readouterr().err


def test_benchmark_budget_takes_the_images_that_were_held_out(
    run_folder: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = tmp_path / "data", tmp_path / "model"
    shutil.copytree(coco_folder, data)
    (data / "annotations" / "instances_val.json").unlink()
    shutil.rmtree(data / "val")
    shutil.copytree(run_folder / "best", model)
    content = json.loads((model / "config.json").read_text())
    content["data"]["val_fraction"] = 0.25
    (model / "config.json").write_text(json.dumps(content))
    options = ["--weights", model, "--data", data, "--rounds", 1, "--device", "cpu", "--anchors", 9, "--json"]
    assert call("benchmark", "budget", *options) == 0
    assert json.loads(capsys.readouterr().out)["budgets"][0]["anchors"] == 9


def test_two_images_of_one_name_are_told_apart(run_folder: Path, coco_folder: Path, tmp_path: Path) -> None:
    names = ("shapes_val_00000.png", "shapes_val_00001.png")
    for folder, name in zip(("a", "b"), names, strict=True):
        (tmp_path / folder).mkdir()
        shutil.copy(coco_folder / "val" / name, tmp_path / folder / "same.png")
    sources = [tmp_path / "a" / "same.png", tmp_path / "b" / "same.png"]
    output = tmp_path / "out"
    assert call("predict", *sources, "--weights", run_folder, "--output-dir", output, "--threshold", 0.0) == 0
    results = json.loads((output / "predictions.json").read_text())
    assert {(result["image_id"], result["file_name"]) for result in results} == {
        (number, str(source)) for number, source in enumerate(sources, start=1)
    }
    drawn = [file.read_bytes() for file in sorted(output.glob("*.jpg"))]
    assert len(drawn) == 2
    assert drawn[0] != drawn[1]


def test_a_broken_image_is_skipped_on_request_and_counted(
    run_folder: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    sources = [tmp_path / "a.jpg", coco_folder / "val" / "shapes_val_00000.png"]
    arguments = ["predict", *sources, "--weights", run_folder, "--output-dir", tmp_path / "out", "--threshold", 0.0]
    arguments.append("--overwrite")
    assert call(*arguments) == 1
    assert "a.jpg is not an image" in capsys.readouterr().err
    assert call(*arguments, "--skip-broken") == 0
    assert "1 of 2 images were skipped." in capsys.readouterr().err
    assert "Skipped: " in caplog.text
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {Path(result["file_name"]).name for result in results} == {"shapes_val_00000.png"}


def test_only_files_that_the_help_names_are_replaced(
    run_folder: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("metrics.json", "predictions.json", "mine.txt"):
        (tmp_path / name).write_text("old")
    weights = ["--weights", run_folder, "--output-dir", tmp_path]
    assert call("eval", "--data", coco_folder, *weights) == 0
    assert call("predict", coco_folder / "val", *weights, "--overwrite") == 0
    assert (tmp_path / "mine.txt").read_text() == "old"
    assert json.loads((tmp_path / "metrics.json").read_text())["ap"] >= 0
    assert isinstance(json.loads((tmp_path / "predictions.json").read_text()), list)
    for command in ("eval", "predict", "doctor"):
        capsys.readouterr()
        assert call(command, "--help") == 0
        assert "replaced" in " ".join(capsys.readouterr().out.split())
    assert call(*train_arguments(coco_folder, run_folder)) == 1
    printed = capsys.readouterr().err
    assert (
        "already holds a run; resume it (--resume), replace it (--overwrite), or choose another --output-dir."
        in printed
    )


def test_a_configuration_file_changes_the_preset(coco_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("train:\n  weight_decay: 0.5\n  lr: 1e-5\n")
    arguments = train_arguments(coco_folder, tmp_path / "run")
    assert call(*arguments, "--config", tmp_path / "recipe.yaml", "--lr", 0.002) == 0
    saved = json.loads((tmp_path / "run" / "last" / "config.json").read_text())
    assert (saved["train"]["weight_decay"], saved["train"]["lr"]) == (0.5, 0.002)


def test_resume_goes_on(run_folder: Path, coco_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = train_arguments(coco_folder, run_folder)
    assert call(*arguments) == 1
    assert "already holds a run" in capsys.readouterr().err
    arguments[arguments.index("--epochs") + 1] = 2
    assert call(*arguments, "--resume") == 0
    assert len((run_folder / "log.jsonl").read_text().splitlines()) == 2


def test_list_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list-models") == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("anchordetr_")]
    assert names == list_models()


def test_list_models_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("ANCHORDETR_HOME", str(tmp_path))
    (tmp_path / "anchordetr_r50_c5").mkdir()
    (tmp_path / "anchordetr_r50_c5" / "model.safetensors").touch()
    assert call("list-models", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list_models()
    assert call("list-models") == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    for row, line in zip(rows, [line for line in printed.splitlines() if line.startswith("anchordetr_")], strict=True):
        name, size, gflops, pixels, latency, ap = line.split()[:6]
        assert (name, pixels, latency) == (row["name"], f"{row['height']}x{row['width']}", row["latency"])
        assert float(size) == pytest.approx(row["parameters"] / 1e6, abs=0.05)
        assert float(gflops) == pytest.approx(row["flops"] / 1e9, abs=0.5 if row["flops"] > 1e10 else 0.05)
        assert ap == (f"{row['coco_ap']:.3f}{'*' if row['cached'] else ''}" if row["weights"] else "-")
        assert all(word in printed for word in row["best_for"].split())
    assert [row["name"] for row in rows if row["cached"]] == ["anchordetr_r50_c5"]


def test_list_models_loads_no_torch() -> None:
    code = """import sys
from anchordetr.cli.main import run
try:
    run(["list-models"])
finally:
    print("torch" in sys.modules, file=sys.stderr)"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "anchordetr_tiny" in result.stdout
    assert result.stderr.strip() == "False"


def test_profile_memory_of_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--size", "256x320", "--features", "c5,c4", "--attention", "rcda tiled, fused", "--device", "cpu"]
    assert call("profile-memory", *options, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["features"], row["attention"]) for row in rows] == [
        (features, attention) for features in ("c5", "c4") for attention in ("rcda tiled", "fused")
    ]
    assert rows[0]["inference"]["measured_bytes"] > 0
    pytest.importorskip("matplotlib", reason="needs the extra anchordetr[plots]")
    assert call("profile-memory", *options, "--plot", tmp_path / "chart.png") == 0
    assert "rcda tiled" in capsys.readouterr().out
    assert (tmp_path / "chart.png").stat().st_size > 1000


def test_profile_memory_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "anchordetr_tiny", "--size", "64x64", "--batch-size", 2, "--device", "cpu"]
    assert call("profile-memory", *options, "--json") == 0
    memory = json.loads(capsys.readouterr().out)
    assert memory["training"]["peak_bytes"] > memory["inference"]["peak_bytes"]
    assert call("profile-memory", *options) == 0
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("backbone", "encoder", "decoder", "loss", "backward", "optimizer"))


def test_profile_memory_plans(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchordetr.profiling.model_memory._PROBE_SIDES", (64, 96, 128))
    options = ["--model", "anchordetr_tiny", "--size", "64x64", "--fits", "1GB", "--device", "cpu"]
    assert call("profile-memory", *options, "--json") == 0
    fits = json.loads(capsys.readouterr().out)
    assert {fit["mode"] for fit in fits} == {"inference", "training"}
    assert all(fit["height"] > 64 for fit in fits)
    assert call("profile-memory", *options) == 0
    assert "batch size" in capsys.readouterr().out


def test_benchmark_rcda(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--size", "4x5", "--heads", 2, "--depth", 8, "--rounds", 1, "--device", "cpu"]
    assert call("benchmark", "rcda", *options, "--output", tmp_path / "speed.json") == 0
    assert "RowColumn" in capsys.readouterr().out
    result = json.loads((tmp_path / "speed.json").read_text())
    assert result["sizes"]["width"] == 5
    assert {"device", "torch", "commit"} <= result["machine"].keys()
    assert {timing["candidate"] for timing in result["timings"]} >= {"sdpa", "rcda reference", "rcda auto"}


@pytest.mark.parametrize(
    ("command", "candidates"),
    [
        (["inference", "--dtypes", "float32"], ["as built", "optimized float32"]),
        (["train-step", "--objects", "3"], ["as built", "gradient checkpointing", "bfloat16", "matching alone"]),
    ],
    ids=["inference", "train-step"],
)
def test_benchmark_of_a_network(
    command: list[str], candidates: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    sizes = ["--model", "anchordetr_tiny", "--size", "64x96", "--rounds", 1, "--device", "cpu"]
    assert call("benchmark", *command, *sizes, *changes, "--output", tmp_path / "speed.json", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "speed.json").read_text()) == printed
    assert [timing["candidate"] for timing in printed["timings"]] == candidates
    assert printed["timings"][0]["ratio"] == 1.0
    assert all(timing["peak_bytes"] > 0 for timing in printed["timings"])


def test_gradient_checkpointing_is_a_flag(coco_folder: Path, tmp_path: Path) -> None:
    assert call(*train_arguments(coco_folder, tmp_path), "--gradient-checkpointing") == 0
    config = json.loads((tmp_path / "best" / "config.json").read_text())
    assert config["train"]["gradient_checkpointing"] is True


def test_benchmark_loader(coco_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "anchordetr_tiny", "--batch-size", 4, "--batches", 3, "--workers", 0]
    assert call("benchmark", "loader", "--data", coco_folder, *options) == 0
    assert "0 workers; 0.0% of the pixels are padding (12 images)" in capsys.readouterr().out
    assert call("benchmark", "loader", "--data", coco_folder, *options, "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 12


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["train", "--data", "none", "--output-dir", "x", "--model", "anchordetr_tny"],
            2,
            "Did you mean 'anchordetr_tiny'",
        ),
        (["train", "--data", "none", "--output-dir", "x", "--set", "train.lrr=1"], 2, "Did you mean 'train.lr'"),
        (["train", "--data", "none", "--output-dir", "x", "--set", "train.lr"], 2, "has no '='"),
        (["train", "--data", "none", "--output-dir", "x", "--set", "train.lr=fast"], 2, "'train.lr': Input should be"),
        (["train", "--data", "none", "--output-dir", "x", "--set", "model.start=local"], 2, "'model.init'"),
        (["train", "--data", "none", "--output-dir", "x", "--precision", "fp8"], 2, "'fp32', 'bf16' or 'fp16'"),
        (["train", "--data", "none", "--output-dir", "x", "--config", "none.yaml"], 1, "none.yaml does not exist"),
        (["train", "--data", "none", "--output-dir", "x", "--model", "anchordetr_tiny"], 1, "none does not exist"),
        (["predict", "none.jpg", "--weights", "none"], 1, "No such image"),
        (["eval", "--weights", "none", "--data", "none"], 1, "neither a folder or file here nor a published"),
        (["profile-memory", "--size", "800"], 2, "HEIGHTxWIDTH"),
        (["profile-memory", "--features", "c6"], 2, "Unknown feature level 'c6'"),
        (["profile-memory", "--attention", "rcda tield"], 2, "Did you mean 'rcda tiled'"),
        (["profile-memory", "--fits", "much"], 2, "is not a memory size"),
        (["benchmark", "rcda", "--dtype", "float64"], 2, "Unknown dtype 'float64'"),
        (["benchmark", "rcda", "--backends", "tield"], 2, "Did you mean 'tiled'"),
        (["benchmark", "inference", "--dtypes", "bfloat"], 2, "Did you mean 'bfloat16'"),
        (["trian"], 2, "No such command"),
        (["train"], 2, "Missing option"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else None,
)
def test_a_mistake_prints_one_line(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in " ".join(printed.err.split())
    assert "Traceback" not in printed.err


def test_an_unreadable_image_is_named_in_one_line(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert call("predict", tmp_path / "broken.jpg", "--weights", run_folder, "--output-dir", tmp_path / "out") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "broken.jpg is not an image" in lines[0]


def test_too_little_memory_is_one_line(
    coco_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("anchordetr.data.doctor.report.examine", full)
    assert call("doctor", coco_folder) == 1
    assert "There is not enough memory" in capsys.readouterr().err


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="Unknown model"):
        run(["train", "--data", "x", "--output-dir", "x", "--model", "nothing", "--debug"])


def test_a_dry_run_prints_the_plan_and_keeps_nothing(
    coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*train_arguments(coco_folder, tmp_path / "run"), "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["training images"], plan["validation images"], plan["classes"]) == (8, 4, 3)
    assert (plan["steps of an epoch"], plan["steps"], plan["images of a step"]) == (2, 2, 4)
    assert plan["bytes of a save"] > 100_000
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("workers", "waiting"), [(0, 7200.0), (1, 7200.0), (2, 3600.0)])
def test_a_dry_run_says_how_long_a_step_waits_for_images(
    coco_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    waiting: float,
) -> None:
    monkeypatch.setattr("anchordetr.training.dry_run._seconds_to_load", lambda data: 7200.0)
    assert call(*train_arguments(coco_folder, tmp_path / "run"), "--dry-run", "--json", "--workers", workers) == 0
    plan = json.loads(capsys.readouterr().out)
    computing = plan["seconds of a step"] if workers else 0.0
    assert plan["seconds that it waits for images"] == pytest.approx(waiting - computing, abs=0.01)
    assert plan["hours of all steps"] == pytest.approx(plan["steps"] * waiting / 3600, abs=0.01)


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_helps_of_inference_do_not_speak_of_training(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    assert "─ Training ─" not in capsys.readouterr().out


def test_eval_takes_a_resolution(run_folder: Path, coco_folder: Path, tmp_path: Path) -> None:
    arguments = ["eval", "--weights", run_folder, "--data", coco_folder, "--output-dir", tmp_path]
    assert call(*arguments, "--resolution", 48) == 0
    expected = Detector.from_pretrained(run_folder, "cpu", settings={"data.resolution": 48}).evaluate(coco_folder)
    assert json.loads((tmp_path / "metrics.json").read_text())["ap"] == expected.ap
