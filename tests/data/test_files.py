"""A file that is written as a whole or not at all."""

import pytest
from safetensors import SafetensorError

from data import files
from data.files import write_whole


def test_the_new_file_reaches_the_disk_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    file, seen = tmp_path / "a.json", []
    file.write_text("old", encoding="utf-8")
    monkeypatch.setattr(files, "fsync", lambda path: seen.append((path.is_dir(), file.read_text(encoding="utf-8"))))
    write_whole(file, lambda part: part.write_text("new", encoding="utf-8"))
    assert seen == [(False, "old"), (True, "new")] and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), SafetensorError("No space"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["write", "fsync"])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, place, error):
    file = tmp_path / "a.json"
    file.write_text("old", encoding="utf-8")

    def fails(part):
        raise error

    if place == "fsync":
        monkeypatch.setattr(files, "fsync", fails)

    def write(part):
        part.write_text("new", encoding="utf-8")
        if place == "write":
            fails(part)

    with pytest.raises(OSError if isinstance(error, SafetensorError) else type(error)):
        write_whole(file, write)
    assert file.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [file]


def test_what_is_written_waits_for_the_disk(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(files.os, "fsync", waited.append)
    write_whole(tmp_path / "a", lambda part: part.touch())
    assert len(waited) == 2  # the file and its folder
