"""How the runs of a report were made: settings, machine, time."""

from evaluate.results import Result, lr_label, run_label


def settings_of(result: Result) -> dict:
    return result["settings"] | {"samples": result["samples"]}


def settings_that_differ(results: list[Result]) -> list[str]:
    """Names of the settings and properties that are not the same in all runs."""
    everything = list(map(settings_of, results))
    names = dict.fromkeys(name for settings in everything for name in settings)
    # A sweep has settings that a single run does not have.
    return [name for name in names if any(settings.get(name) != everything[0].get(name) for settings in everything)]


def making(results: list[Result]) -> dict:
    """What report.html shows of it: the settings that differ by run, and those that do not once."""
    first, differing = results[0], settings_that_differ(results)
    listed = [name for name in differing if name not in ("lr", "seed")]  # these two name the run
    runs = [
        {
            "label": run_label(result, results),
            "settings": {name: written(settings_of(result).get(name)) for name in listed},
            "minutes": minutes(result["environment"]["seconds"]),
        }
        for result in results
    ]
    # The seed of the runs is in their names; the one that all have in common is that of the writing.
    same = {
        "seed of writing" if name == "seed" else name: value
        for name, value in first["settings"].items()
        if name not in (*differing, "model_identity", "text_notes")
    }
    same |= {f"model {name}": value for name, value in first["settings"]["model_identity"].items()}
    same |= {name: first[name] for name in ("book_tokens", "held_out_tokens")}
    machines = [{k: v for k, v in result["environment"].items() if k != "seconds"} for result in results]
    return {
        "text_notes": list(dict.fromkeys(note for result in results for note in result["settings"]["text_notes"])),
        "runs": runs,
        "settings": {name: written(value) for name, value in same.items()},
        "machine": {name: written(value) for name, value in machines[0].items()},
        "other_machines": any(machine != machines[0] for machine in machines),
    }


def written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(written, value))
    return "–" if value is None else lr_label(value) if isinstance(value, float) and 0 < value < 1e-3 else str(value)


def minutes(seconds: dict[str, float]) -> str:
    """Minutes in all, and of what."""
    parts = ", ".join(f"{name} {value / 60:.1f}" for name, value in seconds.items())
    return f"{sum(seconds.values()) / 60:.1f} ({parts})"
