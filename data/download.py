"""Downloads a file once, checks it and keeps it in a cache."""

import os
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from data.files import write_whole

USER_AGENT = "gulliver-learning-rate-course/1.0 (one request, then cached)"


def cache_folder() -> Path:
    """The folder for downloads, in `XDG_CACHE_HOME` or, if that is not set, in `~/.cache`."""
    try:
        given = os.environ.get("XDG_CACHE_HOME")
        return (Path(given).expanduser() if given else Path.home() / ".cache") / "gulliver"
    except RuntimeError:  # some containers have no home folder
        raise FileNotFoundError(
            "downloads are kept in the home folder, and there is none; set XDG_CACHE_HOME to a folder"
        ) from None


def cached_download(name: str, url: str, title: str, fault: Callable[[bytes], str], elsewhere: str) -> Path:
    """The file `name` in the cache; if it is missing, one request to `url` downloads it.

    Args:
        title: what is downloaded, for error messages.
        fault: returns what is wrong with the downloaded bytes, to follow "is not `title`", or "". Wrong bytes are not
            kept.
        elsewhere: what the user can do if the download fails, for error messages.
    """
    file = cache_folder() / name
    if file.is_file():
        return file
    try:
        request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
        with urllib.request.urlopen(request, timeout=20) as response:
            content = response.read()
    except (OSError, HTTPException) as error:
        socks = any(proxy.startswith("socks") for proxy in urllib.request.getproxies().values())
        reason = f"{error}; a SOCKS proxy is set, which Python's urllib does not use" if socks else error
        raise ConnectionError(f"cannot fetch {title} ({reason}); {elsewhere}") from None
    if found := fault(content):
        raise ValueError(f"what {url} sent is not {title}{found}; {elsewhere}")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, lambda part: part.write_bytes(content))
    return file
