"""Full, read-only and limited disks: what is said, and that old files stay."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_disk import small_disk
from torch import Tensor

from anchordetr.disk import make_writable_folder
from anchordetr.errors import InputError, WriteError
from anchordetr.files import write_atomically, write_json, write_text

MEBIBYTE = 2**20
LARGE = {"weights": torch.zeros(3 * MEBIBYTE // 4)}
WRITERS: dict[str, Callable[[dict[str, Tensor], Path], object]] = {
    "torch": torch.save,
    "safetensors": save_file,
    "text": lambda tensors, file: file.write_text("x" * 3 * MEBIBYTE),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_a_full_disk_is_named_with_the_bytes(
    write: Callable[[dict[str, Tensor], Path], object], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 2 * MEBIBYTE) as disk:
        file = disk / "model.bin"
        write_text(file, "old")
        for size, needed in ((0, "more than"), (3 * MEBIBYTE, "3,145,728")):
            with pytest.raises(
                WriteError, match=rf"model\.bin cannot .* disk of {disk} is full .*: {needed}.*free: 2,0"
            ):
                write_atomically(file, lambda temporary: write(LARGE, temporary), size)
        assert file.read_text() == "old"
        assert os.listdir(disk) == ["model.bin"]
        write_text(file, "x" * MEBIBYTE)  # a failed write holds no space


def test_a_file_beyond_the_limit_of_the_process_is_named(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEBIBYTE, before[1]))
    try:
        for write in WRITERS.values():
            with pytest.raises(WriteError, match=r"model\.bin cannot be written: File too large; .*ulimit -f"):
                write_atomically(tmp_path / "model.bin", lambda temporary, write=write: write(LARGE, temporary))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS, errno.EIO])
def test_other_errors_of_the_disk_name_the_file(number: int, tmp_path: Path) -> None:
    def fail(file: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(WriteError, match=rf"model\.bin cannot be written: .*{os.strerror(number)}") as caught:
        write_atomically(tmp_path / "model.bin", fail)
    assert caught.value.errno == number


def test_errors_of_the_writer_itself_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        write_atomically(tmp_path / "model.pt", lambda temporary: torch.save(lambda: None, temporary))
    with pytest.raises(InputError, match="mine"):
        write_atomically(tmp_path / "model.pt", lambda temporary: fail_with(InputError("mine")))
    assert not list(tmp_path.iterdir())


def fail_with(error: Exception) -> None:
    raise error


def test_folders_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"nothing/a\.json cannot be written: No such file"):
        write_json(tmp_path / "nothing" / "a.json", {})
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file/run cannot be written \(Not a directory\)"):
        make_writable_folder(tmp_path / "file" / "run")


def test_long_names_are_written(tmp_path: Path) -> None:
    file = tmp_path / ("ä" * 125 + ".json")
    write_json(file, 3)
    assert file.read_text() == "3\n"
    with pytest.raises(WriteError, match="name too long"):
        write_json(tmp_path / ("x" * 256), 3)


def test_the_replaced_file_is_kept_as_the_previous_one(tmp_path: Path) -> None:
    for text in "abc":
        write_atomically(tmp_path / "new", lambda file, text=text: file.write_text(text), previous=tmp_path / "old")
    assert ((tmp_path / "new").read_text(), (tmp_path / "old").read_text()) == ("c", "b")
    assert len(list(tmp_path.iterdir())) == 2


def test_threads_write_one_file_at_a_time_and_whole(tmp_path: Path) -> None:
    texts = [str(number) * 10_000 for number in range(8)]
    threads = [threading.Thread(target=write_text, args=(tmp_path / "file", text)) for text in texts for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_text() in texts
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from anchordetr.files import write_atomically\n"
        "def write(file):\n"
        "    print(file.parent, flush=True)\n"
        "    time.sleep(60)\n"
        "write_atomically(Path(sys.argv[1]), write)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    dead, living = (Path(process.stdout.readline().strip()) for process in processes if process.stdout)
    processes[0].kill()
    processes[0].communicate()
    assert dead.exists()
    write_text(tmp_path / "file", "new")
    assert sorted(tmp_path.iterdir()) == sorted([living, tmp_path / "file"])
    processes[1].kill()
    processes[1].communicate()
