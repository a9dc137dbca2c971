"""One detector in many threads and processes, beside other networks; nothing of the process changes."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from anchordetr import Detections, Detector
from anchordetr.config import Config
from anchordetr.errors import UsageError
from anchordetr.layers.backbone import TimmBody
from anchordetr.optimize import prepared
from anchordetr.optimize.budget import Budget
from anchordetr.optimize.fold_batch_norm import FoldedBody

IMAGE = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)


def with_random_heads(detector: Detector) -> Detector:
    torch.nn.init.normal_(detector.model.heads.class_head.weight)
    torch.nn.init.normal_(detector.model.heads.box_head.layers[-1].weight)
    return detector


@pytest.fixture
def detector(small_config: Config) -> Detector:
    return with_random_heads(Detector(small_config, device="cpu"))


def boxes(detector: Detector, **budget: Any) -> NDArray[np.float32]:
    found = detector.predict(IMAGE, 0.0, **budget)
    assert isinstance(found, Detections)
    return found.xyxy


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """Start all calls at once and return their results."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index: int) -> None:
        barrier.wait()
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@contextmanager
def repeated(call: Callable[[], Any]) -> Iterator[None]:
    """Repeat a call in another thread, which switches often, and raise its first error at the end."""
    stop, started, errors, interval = threading.Event(), threading.Event(), [], sys.getswitchinterval()

    def run() -> None:
        while not stop.is_set():
            try:
                call()
            except BaseException as error:
                errors.append(error)
                stop.set()
            started.set()

    thread = threading.Thread(target=run)
    sys.setswitchinterval(1e-5)
    thread.start()
    started.wait()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]


def another_network() -> Callable[[], None]:
    """Return a check that another network computes as ever, and that ``nn.Module`` is as torch made it."""
    network, features = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(3, 4)
    expected, call, read = network(features), nn.Module.__call__, nn.Module.__getattr__

    def check() -> None:
        assert nn.Module.__call__ is call
        assert nn.Module.__getattr__ is read
        assert torch.equal(network(features), expected)

    return check


def test_threads_at_a_cold_detector_get_what_one_gets(detector: Detector) -> None:
    expected = [boxes(copy.deepcopy(detector), **budget) for budget in ({}, {"layers": 1})]
    with repeated(another_network()):
        found = in_threads(*[lambda i=i: boxes(detector, **({"layers": 1} if i % 2 else {})) for i in range(8)])
    for index, result in enumerate(found):
        np.testing.assert_array_equal(result, expected[index % 2])


def test_threads_that_read_ahead_at_once_disturb_nobody(detector: Detector, tmp_path: Path) -> None:
    for number in range(9):
        Image.fromarray(IMAGE[:, : 20 + 5 * number]).save(tmp_path / f"{number}.png")
    expected = [boxes.xyxy for boxes in detector.predict(tmp_path, 0.0)]
    with repeated(another_network()):
        random = torch.get_rng_state()
        found = in_threads(*[lambda: detector.predict(tmp_path, 0.0)] * 4)
    assert torch.equal(torch.get_rng_state(), random)
    for several in found:
        for one, alone in zip(several, expected, strict=True):
            np.testing.assert_array_equal(one.xyxy, alone)


def test_building_and_loading_beside_predictions(detector: Detector, small_config: Config, tmp_path: Path) -> None:
    detector.save_pretrained(tmp_path)
    expected = boxes(detector)

    def build() -> None:
        Detector(small_config, device="cpu")
        np.testing.assert_array_equal(boxes(Detector.from_pretrained(tmp_path, device="cpu")), expected)

    with repeated(another_network()), repeated(build):
        for _ in range(2):
            cold = copy.deepcopy(detector)
            for found in in_threads(*[lambda cold=cold: boxes(cold)] * 4):
                np.testing.assert_array_equal(found, expected)


def test_networks_built_at_once_are_those_built_alone(small_config: Config) -> None:
    configs = [small_config.updated({"train.seed": seed}) for seed in range(4)]
    alone = [Detector(config, device="cpu").model.state_dict() for config in configs]
    state = torch.get_rng_state()
    with repeated(lambda: torch.rand(3)):
        together = in_threads(*[lambda config=config: Detector(config, device="cpu") for config in configs])
    for built, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(built.model.state_dict(), expected, rtol=0, atol=0)
    torch.set_rng_state(state)
    in_threads(*[lambda config=config: Detector(config, device="cpu") for config in configs])
    assert torch.equal(torch.get_rng_state(), state)


def test_predictions_beside_an_optimization_of_the_same_network(detector: Detector) -> None:
    expected = boxes(copy.deepcopy(detector))
    with repeated(detector.model.optimize_for_inference):
        for _ in range(4):
            detector.refresh()
            np.testing.assert_array_equal(boxes(detector), expected)


def test_the_first_prediction_makes_nothing(
    small_config: Config, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.save_pretrained(tmp_path)
    built, loaded = Detector(small_config, device="cpu"), Detector.from_pretrained(tmp_path, device="cpu")
    copied, unpickled = copy.deepcopy(built), pickle.loads(pickle.dumps(built))
    monkeypatch.setattr(prepared, "fuse", lambda model: pytest.fail("a copy was made"))
    for ready in (built, loaded, copied, unpickled):
        boxes(ready)


def test_one_thread_makes_the_copy_again_when_weights_have_changed(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, calls, fuse = boxes(detector), [], prepared.fuse
    monkeypatch.setattr(prepared, "fuse", lambda model: calls.append(model) or fuse(model))
    with torch.no_grad():
        detector.model.heads.box_head.layers[-1].bias.add_(1.0)
    expected = boxes(copy.deepcopy(detector))
    calls.clear()
    for found in in_threads(*[lambda: boxes(detector)] * 8):
        np.testing.assert_array_equal(found, expected)
    assert calls == [detector.model]
    assert not np.array_equal(expected, before)


def test_a_dropped_copy_leaves_memory_at_once(detector: Detector) -> None:
    gc.disable()  # cycles would stay, as they do for a long time in a process that makes few objects
    try:
        boxes(detector)
        values = detector._prepared.of(detector.model).state_dict(keep_vars=True).values()
        dropped = [weakref.ref(value) for value in values]
        del values
        detector.refresh()
        assert dropped
        assert not any(value() is not None for value in dropped)
    finally:
        gc.enable()


def test_no_copy_is_made_of_weights_that_change_meanwhile(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    fuse, bias = prepared.fuse, detector.model.heads.box_head.layers[-1].bias
    changes = iter([True, False])

    def disturbed(model: nn.Module) -> nn.Module:
        copied = fuse(model)
        if next(changes, True):
            bias.data = bias.data + 1.0
        return copied

    monkeypatch.setattr(prepared, "fuse", disturbed)
    found = boxes(detector)
    monkeypatch.setattr(prepared, "fuse", fuse)
    np.testing.assert_array_equal(found, boxes(copy.deepcopy(detector)))
    detector.refresh()
    monkeypatch.setattr(prepared, "fuse", disturbed)
    bias.data = bias.data + 1.0
    with pytest.raises(UsageError, match="Another thread changes the weights"):
        boxes(detector)


def test_weights_replaced_twice_are_noticed(detector: Detector) -> None:
    weight = detector.model.encoder.layers[0].feed_forward.linear1.weight
    values = weight.detach().numpy().copy()
    weight.data, address = torch.from_numpy(values), weakref.ref(values)
    before = boxes(detector)
    weight.data = weight.data * 1.5
    del values
    assert address() is not None  # until the next prediction, no other tensor gets the address of the first one
    weight.data = weight.data * 1.5
    assert not np.array_equal(boxes(detector), before)
    assert address() is None


def test_refresh_follows_changes_that_torch_does_not_count(detector: Detector) -> None:
    before = boxes(detector)
    detector.model.heads.box_head.layers[-1].bias.data.add_(1.0)
    detector.refresh()
    changed = boxes(detector)
    assert not np.array_equal(changed, before)
    np.testing.assert_array_equal(boxes(copy.deepcopy(detector)), changed)


def test_an_interrupted_preparation_starts_over(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, fuse = boxes(copy.deepcopy(detector)), prepared.fuse

    def interrupted(model: nn.Module) -> nn.Module:
        fuse(model)
        raise KeyboardInterrupt

    monkeypatch.setattr(prepared, "fuse", interrupted)
    with pytest.raises(KeyboardInterrupt):
        boxes(detector)
    monkeypatch.setattr(prepared, "fuse", fuse)
    for found in in_threads(lambda: boxes(detector), lambda: boxes(detector)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_copies_and_pickles_predict_the_same(detector: Detector, warm: bool) -> None:
    expected = boxes(detector if warm else copy.deepcopy(detector))
    content = pickle.dumps(detector)
    assert len(content) < 1.5 * sum(value.nbytes for value in detector.model.state_dict().values()) + 200_000
    with repeated(another_network()):
        others = [copy.deepcopy(detector), *in_threads(*[lambda: pickle.loads(content)] * 4)]
    for other in others:
        np.testing.assert_array_equal(boxes(other), expected)
    np.testing.assert_array_equal(boxes(detector), expected)


@pytest.mark.parametrize("name", ["resnet10t", "test_convnext.r160_in1k"])
def test_fused_bodies_are_pickled_without_tracing(name: str) -> None:
    bodies = [FoldedBody(TimmBody(name, features), torch.float32) for features in ("c4", "c3")]
    pixels, contents = torch.randn(1, 3, 64, 64), [pickle.dumps(body) for body in bodies]
    with repeated(another_network()):
        copies = in_threads(*[lambda content=content: pickle.loads(content) for content in contents * 3])
    for index, body in enumerate(copies):
        assert torch.equal(body(pixels)[0], bodies[index % 2](pixels)[0])
    assert torch.equal(copy.deepcopy(bodies[0])(pixels)[0], bodies[0](pixels)[0])


@pytest.mark.parametrize(
    ("method", "warm"), [("spawn", True), ("fork", False), ("fork", True)], ids=["spawn", "fork cold", "fork warm"]
)
def test_other_processes_predict_the_same(detector: Detector, method: str, warm: bool) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # OpenMP's threads, which a fork does not copy
    try:
        expected = boxes(detector if warm else copy.deepcopy(detector))
        with (
            warnings.catch_warnings(action="ignore", category=DeprecationWarning),  # of a fork beside threads
            ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool,
        ):
            found = pool.submit(detector.predict, IMAGE, 0.0).result(60)
            several = pool.submit(detector.predict, [IMAGE, IMAGE], 0.0).result(60)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    for each in (found, *several):
        np.testing.assert_allclose(each.xyxy, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_fork_during_a_preparation_predicts(detector: Detector) -> None:
    holds, release = threading.Event(), threading.Event()

    def hold() -> None:
        with prepared._lock:
            holds.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        process = multiprocessing.get_context("fork").Process(target=boxes, args=(detector,), daemon=True)
        process.start()
    release.set()
    thread.join()
    process.join(60)
    assert process.exitcode == 0


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("setting", [default_dtype, default_device, torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize(
    "changes",
    [{}, {"model.attention": "rcda_rotary"}, {"model.queries": "embeddings"}, {"model.queries": "proposals"}],
    ids=str,
)
def test_the_callers_settings_do_not_matter(
    setting: Callable[[], Any], changes: dict[str, Any], small_config: Config
) -> None:
    detector = with_random_heads(Detector(small_config.updated(changes), device="cpu"))
    expected = boxes(detector)
    with setting():
        for other in (detector, copy.deepcopy(detector)):
            np.testing.assert_array_equal(boxes(other), expected)
            assert len(boxes(other, layers=1)) == len(expected)
        built = Detector(detector.config, device="cpu")
        assert len(boxes(built)) == len(expected)
    assert {value.dtype for value in built.model.parameters()} == {torch.float32}
    assert not any(value.is_inference() for value in built.model.parameters())
    np.testing.assert_array_equal(boxes(other), expected)


def test_predictions_change_nothing_of_the_process(detector: Detector) -> None:
    detector.model.train()
    kept = (torch.get_rng_state(), np.random.get_state()[1].tolist(), torch.get_num_threads(), dict(os.environ))
    filters = list(warnings.filters)
    boxes(detector)
    boxes(detector, anchors=3, patterns=1)
    now = (torch.get_rng_state(), np.random.get_state()[1].tolist(), torch.get_num_threads(), dict(os.environ))
    assert torch.equal(now[0], kept[0])
    assert now[1:] == kept[1:]
    assert warnings.filters == filters
    assert detector.model.training
    assert all(module.training for module in detector.model.encoder.modules())


@pytest.mark.parametrize("queries", ["anchors", "embeddings"])
def test_constant_queries_move_with_their_network(queries: str, small_config: Config) -> None:
    fused = Detector(small_config.updated({"model.queries": queries}), device="cpu").model.optimize_for_inference()
    moved = copy.deepcopy(fused).to("meta", torch.float64)
    for network, device, dtype in ((moved, "meta", torch.float64), (fused, "cpu", torch.float32)):
        held = network.queries.queries
        for value in (held.content, held.references, held.positions.points, held.positions.x, held.positions.joint):
            assert (value.device.type, value.dtype) == (device, dtype)


def test_a_moved_network_is_copied_again(detector: Detector) -> None:
    expected = boxes(detector)
    for parameter in detector.model.parameters():
        assert parameter.dtype == torch.float32
    whole = detector._prepared.of(detector.model)
    detector.model.to(torch.float64).to(torch.float32)
    assert detector._prepared.of(detector.model) is not whole
    np.testing.assert_array_equal(boxes(detector), expected)
    assert detector._prepared.of(detector.model, Budget(layers=1)) is not whole
