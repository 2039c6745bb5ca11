"""One polite download: asked for once, checked, then kept in the cache."""

import os
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from data.files import write_whole

USER_AGENT = "gulliver-learning-rate-course/1.0 (one request, then cached)"


def cache_folder() -> Path:
    """Where downloads are kept: below `XDG_CACHE_HOME`, or `~/.cache` where that is not set.

    Raises:
        FileNotFoundError: nor is there a home folder, as in some containers.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gulliver"
    except RuntimeError:
        raise FileNotFoundError(
            "downloads are kept in the home folder, and there is none; set XDG_CACHE_HOME to a folder"
        ) from None


def cached_download(file: Path, url: str, title: str, fault: Callable[[bytes], str], elsewhere: str) -> Path:
    """`file`, made by one plain request to `url` if it is not there yet.

    Args:
        title: what is fetched, in the words of an error.
        fault: what is wrong with the bytes that came, as it follows on "is not `title`"; empty if nothing is.
        elsewhere: what to do where it cannot be had here.

    Raises:
        ConnectionError: not there, and cannot be fetched.
        ValueError: something else came; it is not kept.
    """
    if file.is_file():
        return file
    try:
        request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
        with urllib.request.urlopen(request, timeout=20) as response:
            content = response.read()
    except (OSError, HTTPException) as error:
        socks = any(proxy.startswith("socks") for proxy in urllib.request.getproxies().values())
        reason = f"{error}; a SOCKS proxy is set, and no use is made of it here" if socks else error
        raise ConnectionError(f"cannot fetch {title} ({reason}); {elsewhere}") from None
    if found := fault(content):
        raise ValueError(f"what {url} sent is not {title}{found}; {elsewhere}")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, lambda part: part.write_bytes(content))
    return file
