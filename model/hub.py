"""Where a model's folder comes from: a path, the one shipped here, or the hub and its cache."""

import hashlib
import os
from pathlib import Path

MODEL_FILES = ("config.json", "model.safetensors", "vocab.json", "merges.txt")

# name: (repository on the hub, revision, sha256 of model.safetensors where we know it).
HUB = {
    "gpt2": (
        "openai-community/gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    ),
    "gpt2-medium": ("openai-community/gpt2-medium", "main", None),
    "gpt2-large": ("openai-community/gpt2-large", "main", None),
    "gpt2-xl": ("openai-community/gpt2-xl", "main", None),
}

# A small GPT-2 that comes with the project; its README.md says how it was made.
LILLIPUT = Path(__file__).parent / "lilliput"


def model_folder(name_or_folder: str | Path, *, endpoint: str | None = None, cache: Path | None = None) -> Path:
    """The folder with the four files of a model; fetched from the hub on first use, if it is one of OpenAI's.

    Args:
        name_or_folder: a key of `HUB`, `lilliput`, or a folder.
        endpoint: address of the hub, and `cache`, the folder for what it sends: huggingface_hub's own by default.

    Raises:
        ValueError: neither a known name nor a folder; or the weights are not the official ones.
        FileNotFoundError: the folder lacks `config.json` or `model.safetensors`.
        ConnectionError: not in the cache, and the hub cannot be reached.
    """
    if name_or_folder in HUB:
        return fetch(str(name_or_folder), endpoint=endpoint, cache=cache)
    folder = LILLIPUT if name_or_folder == "lilliput" else Path(name_or_folder)
    if not folder.is_dir():
        raise ValueError(
            f"there is no model or folder {str(name_or_folder)!r}; use {', '.join(HUB)}, lilliput, "
            f"or a folder with {', '.join(MODEL_FILES)}"
        )
    for name in MODEL_FILES[:2]:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; a model folder holds {', '.join(MODEL_FILES)}")
    return folder


def fetch(name: str, *, endpoint: str | None = None, cache: Path | None = None) -> Path:
    """The cached folder of a model of `HUB`. With all four files in the cache no connection is made."""
    # Imported here: a run on a folder has no use for it and starts half a second sooner.
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    repository, revision, sha256 = HUB[name]

    def locate(file: str, **options) -> Path:
        return Path(hf_hub_download(repository, file, revision=revision, endpoint=endpoint, cache_dir=cache, **options))

    try:
        files = [locate(file, local_files_only=True) for file in MODEL_FILES]
    except LocalEntryNotFoundError:
        try:
            # One quick question first: the download itself would try again and again for half a minute.
            get_hf_file_metadata(hf_hub_url(repository, "config.json", revision=revision, endpoint=endpoint), timeout=5)
            files = [locate(file) for file in MODEL_FILES]
        except (HTTPError, HfHubHTTPError, OSError) as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise ConnectionError(
                f"{name} is not in the cache and could not be fetched ({reason}); connect to the internet, or fetch "
                f"{', '.join(MODEL_FILES)} of {repository} elsewhere and name their folder with --model FOLDER; "
                "without either, `make demo` or --model lilliput use the small model that is shipped"
            ) from None
    folder = files[0].parent
    if sha256 is None:
        # The hub names a large file by its sha256, and its cache keeps that name behind the link.
        blob = (folder / "model.safetensors").resolve().name
        sha256 = blob if len(blob) == 64 else None
    if sha256 is not None:
        verify_once(folder / "model.safetensors", sha256)
    return folder


def file_sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def verify_once(file: Path, sha256: str, stamps: Path | None = None) -> None:
    """Check the file's sha256, unless this very file (place, size, time of change) has passed before.

    Raises:
        ValueError: it has another sha256: a damaged or a different file.
    """
    stamps = stamps or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gulliver" / "verified"
    stat = file.resolve().stat()
    mark = f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    stamp = stamps / sha256
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == mark:
        return
    found = file_sha256(file)
    if found != sha256:
        raise ValueError(
            f"{file} is damaged: its sha256 is {found}, not {sha256}; delete {file.resolve()} and start again"
        )
    try:
        stamps.mkdir(parents=True, exist_ok=True)
        stamp.write_text(mark, encoding="utf-8")
    except OSError:
        pass  # a read-only home: then it is checked every time
