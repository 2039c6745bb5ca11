"""Where a model's folder comes from: a path, the model shipped here, or the hub and its cache."""

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from data.download import cache_folder
from data.files import write_text

WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"  # the index where weights are in shards
TOKENIZER_FILES, WHOLE_TOKENIZER = ("vocab.json", "merges.txt"), "tokenizer.json"  # two files or one
MODEL_FILES = ("config.json", WEIGHTS_FILE, *TOKENIZER_FILES)  # as this project writes them
FETCHED = [*MODEL_FILES, WHOLE_TOKENIZER, INDEX_FILE, "adapter_config.json", "model-*-of-*.safetensors"]


class Source(NamedTuple):
    """Where a model is on the hub."""

    repository: str
    revision: str
    sha256: str | None = None  # of its weights, where it is known


HUB = {
    "gpt2": Source(
        "openai-community/gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    ),
    "gpt2-medium": Source("openai-community/gpt2-medium", "main"),
    "gpt2-large": Source("openai-community/gpt2-large", "main"),
    "gpt2-xl": Source("openai-community/gpt2-xl", "main"),
}
ON_THE_HUB = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")  # owner/name[@revision]

# A small GPT-2 that is part of the project; its README.md says how it was made.
LILLIPUT = Path(__file__).parent / "lilliput"


def source_of(name: str | Path) -> Source | None:
    """Where on the hub the model `name` is: one of OpenAI's, or owner/name[@revision]. None for everything else."""
    if name in HUB:
        return HUB[name]
    found = None if Path(name).exists() else ON_THE_HUB.fullmatch(str(name))
    return found and Source(found[1], found[2] or "main")


def model_folder(name_or_folder: str | Path, *, endpoint: str | None = None, cache: Path | None = None) -> Path:
    """The folder with the files of a model; a model on the hub is downloaded on first use.

    Args:
        name_or_folder: a key of `HUB`, `lilliput`, a folder, or the hub's owner/name[@revision].
        endpoint, cache: address of the hub and folder for its files; None: the defaults of huggingface_hub.
    """
    if source := source_of(name_or_folder):
        return fetch(str(name_or_folder), source, endpoint=endpoint, cache=cache)
    folder = LILLIPUT if name_or_folder == "lilliput" else Path(name_or_folder)
    if not folder.is_dir():
        raise ValueError(
            f"there is no model or folder {str(name_or_folder)!r}; use {', '.join(HUB)}, lilliput, "
            f"a folder with {', '.join(MODEL_FILES)}, or the hub's owner/name"
        )
    refuse_adapter(str(name_or_folder), folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} has no config.json; a model folder holds {', '.join(MODEL_FILES)}, a sweep's are in lr-*"
        )
    weight_files(folder)
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The file of a model's weights, or its shards, in the order of their names."""
    names = [WEIGHTS_FILE]
    index = folder / INDEX_FILE
    if not (folder / WEIGHTS_FILE).is_file() and index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            if not names or any(Path(name).name != name for name in names):
                raise ValueError("it names no file of this folder")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{index} is damaged ({error}); fetch it again") from None
    for name in names:
        if (folder / name).is_file():
            continue
        if (folder / "pytorch_model.bin").is_file():
            raise ValueError(
                f"{folder} has its weights in pytorch_model.bin, a pickle, which can run code as it is opened; two "
                'lines of Python there convert it: weights = torch.load("pytorch_model.bin", weights_only=True); '
                "safetensors.torch.save_file({name: w.clone() for name, w in weights.items()}, "
                f'"{WEIGHTS_FILE}", {{"format": "pt"}})'
            )
        raise FileNotFoundError(f"{folder} has no {name}; a model folder holds {', '.join(MODEL_FILES)}")
    return [folder / name for name in names]


def fetch(name: str, source: Source, *, endpoint: str | None = None, cache: Path | None = None) -> Path:
    """The cached folder of a model on the hub. If all its files are in the cache, no connection is made."""
    # Imported here: a run on a folder does not need it and starts half a second sooner.
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

    repository, revision, sha256 = source
    # Other programs may have cached OpenAI's models at another revision, or under the old names without an owner.
    places = [(repository, revision)]
    if name in HUB:
        places += [(repository, "main"), (repository.split("/")[1], "main")]
    try:
        for place, version in places:
            with suppress(LocalEntryNotFoundError):
                local = {"cache_dir": cache, "local_files_only": True, "allow_patterns": "config.json"}
                folder = Path(snapshot_download(place, revision=version, **local))
                if is_complete(folder):
                    break
        else:
            # One quick question first: the download would retry for half a minute.
            HfApi(endpoint=endpoint).model_info(repository, revision=revision, timeout=5)
            online = {"cache_dir": cache, "endpoint": endpoint, "allow_patterns": FETCHED}
            folder = Path(snapshot_download(repository, revision=revision, **online))
    except (HTTPError, HFValidationError, OSError, ImportError) as error:  # ImportError: what a SOCKS proxy needs
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ConnectionError(
            f"{name} is {'' if name in HUB else 'no folder, '}not in the cache and could not be fetched ({reason}); "
            f"connect to the internet, or fetch {', '.join(MODEL_FILES)} of {repository} elsewhere and name "
            "their folder instead; python -m train.sweep demo needs neither"
        ) from None
    refuse_adapter(name, folder)
    if not is_complete(folder):
        raise FileNotFoundError(
            f"{repository} on the hub lacks {WEIGHTS_FILE} or another file; take a model that has "
            f"{', '.join(MODEL_FILES)} (a pytorch_model.bin is not opened: it is a pickle, which can run code)"
        )
    return verified(folder, sha256)


def refuse_adapter(name: str, folder: Path) -> None:
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError(
            f"{name} is a LoRA adapter; merge it into its base model first (peft: merge_and_unload()), then save that"
        )


def is_complete(folder: Path) -> bool:
    """Whether a folder of the cache has all files of a model; a download may have been interrupted."""
    try:
        weight_files(folder)
    except (ValueError, FileNotFoundError):
        return False
    tokenizer = (WHOLE_TOKENIZER,) if (folder / WHOLE_TOKENIZER).is_file() else TOKENIZER_FILES
    return all((folder / name).is_file() for name in ("config.json", *tokenizer))


def verified(folder: Path, sha256: str | None) -> Path:
    """`folder`, after its weights have been compared with `sha256`, or else with the checksum that the hub sent."""
    for file in weight_files(folder):
        # The hub names a large file by its sha256, and its cache keeps that name behind the link.
        blob = file.resolve().name
        if expected := sha256 or (blob if len(blob) == 64 else None):
            verify_once(file, expected, cache_folder() / "verified")
    return folder


def file_sha256(*files: Path) -> str:
    """The sha256 of one file, or of several one after another."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as opened:
            hashlib.file_digest(opened, lambda: digest)
    return digest.hexdigest()


def verify_once(file: Path, sha256: str, stamps: Path) -> None:
    """Check the file's sha256, unless this very file (place, size, time of change) has passed before.

    Args:
        stamps: folder that records which files have passed.
    """
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
        write_text(stamp, mark)
    except OSError:
        pass  # a read-only home: then it is checked every time
