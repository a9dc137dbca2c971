"""Download of published COCO weights by the name of the preset, conversion and a local cache."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from anchordetr.console import DownloadBar, say
from anchordetr.errors import InputError
from anchordetr.locks import locked
from anchordetr.web import is_reachable
from anchordetr.weights.checksums import remember, remembered, sha256
from anchordetr.weights.description import SavedModel
from anchordetr.weights.download import download
from anchordetr.weights.folder import WEIGHTS_FILE
from anchordetr.weights.official import read_original
from anchordetr.weights.published import PUBLISHED, cache_home, is_cached
from anchordetr.weights.saved_model import read_weights_file, write_model


def fetch(name: str) -> SavedModel:
    """Return a published model; it is downloaded and converted on first use.

    The SHA-256 of the download and of the converted weights are stored in ``checksums.json`` and compared on later use.
    Converted weights that have changed are downloaded again. What is in the cache is read without writing there.

    Args:
        name: a key of :data:`~anchordetr.weights.published.PUBLISHED`.

    Raises:
        InputError: the file cannot be downloaded, is damaged, or differs from that of the first use; or the cache
            folder cannot be used.
    """
    home = cache_home()
    try:
        saved = _read_cached(name)
        if saved is None:
            home.mkdir(parents=True, exist_ok=True)
            with locked(home / f"{name}.lock"):
                saved = _read_cached(name) or _fetch_and_convert(name)
    except OSError as error:
        raise InputError(
            f"The cache folder {home} cannot be used: {error}. Set ANCHORDETR_HOME to a folder that can be written."
        ) from error
    return saved


def _read_cached(name: str) -> SavedModel | None:
    """Return a model of the cache; None if it is not there, is damaged or has changed.

    Its ``config.json`` is for reading only: the weights hold the configuration, and their digests cover it.
    """
    file, key = cache_home() / name / WEIGHTS_FILE, f"{name}/{WEIGHTS_FILE}"
    if not file.is_file():
        return None
    digest = sha256(file)
    known = remembered(_checksums_file(), key)
    if known not in (None, digest):
        return None
    try:
        saved = read_weights_file(file.parent)
    except InputError:
        return None
    if known is None:
        with contextlib.suppress(OSError):  # a read-only cache
            remember(_checksums_file(), {key: digest, PUBLISHED[name].file: saved.origin["sha256"]})
    return saved


def _fetch_and_convert(name: str) -> SavedModel:
    """Download and convert a model, and return it as it is in the cache afterwards."""
    folder, published = cache_home() / name, PUBLISHED[name]
    if is_cached(name):
        say(f"{folder / WEIGHTS_FILE} has changed since it was converted, or is damaged; downloading it again.")
    file = cache_home() / published.file
    if not is_reachable(published.url):
        raise InputError(
            f"The weights of {name} are not on this machine, and {urlsplit(published.url).netloc} cannot be reached: "
            f"connect to the network, or fetch it by hand from {published.url} and pass the path of the file."
        )
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
        if remembered(_checksums_file(), published.file) not in (None, digest):
            raise InputError(
                f"{published.url} has SHA-256 {digest}, which is not the one remembered from the first use. If you "
                f"trust the new file, remove the entry of {published.file} from {_checksums_file()}."
            )
        saved = read_original(file, published.features)
    finally:
        file.unlink()
    say(f"SHA-256 of {published.file}: {digest} (remembered in {_checksums_file()})")
    origin = {"source": published.url, "sha256": digest, "data": "COCO 2017", "metrics": {"ap": published.ap}}
    write_model(folder, replace(saved, origin=saved.origin | origin))
    remember(_checksums_file(), {published.file: digest, f"{name}/{WEIGHTS_FILE}": sha256(folder / WEIGHTS_FILE)})
    return read_weights_file(folder)


def _checksums_file() -> Path:
    return cache_home() / "checksums.json"
