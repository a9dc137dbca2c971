"""Published COCO weights: download by the name of the preset, conversion and a local cache."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from anchordetr.console import DownloadBar, say
from anchordetr.errors import InputError
from anchordetr.files import write_json
from anchordetr.weights.download import download
from anchordetr.weights.official import read_original
from anchordetr.weights.saved_model import WEIGHTS_FILE, SavedModel, read_model, write_model

_RELEASE = "https://github.com/IDEA-Research/detrex-storage/releases/download/v0.3.0"


@dataclass(frozen=True)
class Published:
    """Published weights.

    Attributes:
        file: name in the release.
        features: ``c5`` or ``dc5``.
        ap: published AP on COCO val2017, a fraction of 1.
    """

    file: str
    features: str
    ap: float

    @property
    def url(self) -> str:
        """The URL of the file; ``ANCHORDETR_MIRROR`` sets another base URL with the same files."""
        return f"{os.environ.get('ANCHORDETR_MIRROR', _RELEASE).rstrip('/')}/{self.file}"


PUBLISHED: dict[str, Published] = {
    "anchordetr_r50_c5": Published("converted_anchor_detr_r50_50ep.pth", "c5", 0.422),
    "anchordetr_r50_dc5": Published("converted_anchor_detr_r50_dc5_50ep.pth", "dc5", 0.442),
    "anchordetr_r101_c5": Published("converted_anchor_detr_r101_50ep.pth", "c5", 0.435),
    "anchordetr_r101_dc5": Published("converted_anchor_detr_r101_dc5_50ep.pth", "dc5", 0.451),
}


def cache_home() -> Path:
    """Return the cache folder: ``ANCHORDETR_HOME``, or ``anchordetr`` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "anchordetr"
    return Path(os.environ.get("ANCHORDETR_HOME", default)).expanduser()


def is_cached(name: str) -> bool:
    """Return whether a published model is in the cache."""
    return (cache_home() / name / WEIGHTS_FILE).is_file()


def fetch(name: str) -> SavedModel:
    """Return a published model; it is downloaded and converted on first use.

    The SHA-256 of the download and of the converted weights are stored in ``checksums.json`` and compared on later use.
    Converted weights that have changed are downloaded again.

    Args:
        name: a key of :data:`PUBLISHED`.

    Raises:
        InputError: the file cannot be downloaded, is damaged, or differs from that of the first use.
    """
    folder = cache_home() / name
    cache_home().mkdir(parents=True, exist_ok=True)
    with FileLock(cache_home() / f"{name}.lock"):
        if is_cached(name):
            if _agrees(f"{name}/{WEIGHTS_FILE}", sha256(folder / WEIGHTS_FILE)):
                return read_model(folder)
            say(f"{folder / WEIGHTS_FILE} has changed since it was converted; downloading it again.")
        saved = _fetch_and_convert(PUBLISHED[name])
        write_model(folder, saved)
        _remember(f"{name}/{WEIGHTS_FILE}", sha256(folder / WEIGHTS_FILE))
    return read_model(folder)


def _fetch_and_convert(published: Published) -> SavedModel:
    file = cache_home() / published.file
    try:
        with DownloadBar(published.file) as bar:
            download(published.url, file, bar.update)
    except OSError as error:
        raise InputError(
            f"{published.url} could not be downloaded ({error}). Try again: the partial download is kept. "
            f"Or fetch it by hand and pass the path of {published.file} instead of the name."
        ) from error
    digest = sha256(file)
    try:
        if not _agrees(published.file, digest, unknown=True):
            raise InputError(
                f"{published.url} has SHA-256 {digest}, which is not the one remembered from the first use. If you "
                f"trust the new file, remove the entry of {published.file} from {_checksums_file()}."
            )
        saved = read_original(file, published.features)
    finally:
        file.unlink()
    say(f"SHA-256 of {published.file}: {digest} (remembered in {_checksums_file()})")
    _remember(published.file, digest)
    origin = {"source": published.url, "sha256": digest, "data": "COCO 2017", "metrics": {"ap": published.ap}}
    return replace(saved, origin=saved.origin | origin)


def sha256(file: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checksums_file() -> Path:
    return cache_home() / "checksums.json"


def _checksums() -> dict[str, str]:
    file = _checksums_file()
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def _agrees(key: str, digest: str, unknown: bool = False) -> bool:
    """Return whether a digest equals the remembered one, or ``unknown`` if there is none."""
    remembered = _checksums().get(key)
    return unknown if remembered is None else remembered == digest


def _remember(key: str, digest: str) -> None:
    write_json(_checksums_file(), _checksums() | {key: digest})
