"""Tables of what the benchmark wrote: `python -m tests.bench.page` puts those of one machine into README.md."""

import json
import statistics
from pathlib import Path

from tests.bench.rows import AIMS, AT_MOST

HERE = Path(__file__).resolve().parent
MARK = "<!-- From here on python -m tests.bench.page writes. -->\n"


def report(results: dict) -> str:
    """The Markdown tables of `results`."""
    machine, peak = results["machine"], results["matmul_flops"]
    low = f"{peak['bfloat16'] / 1e9:.0f} in bfloat16" if peak["bfloat16"] else "bfloat16 is only imitated: left out"
    lines = [
        f"{machine['cores']} cores of {machine['cpu']} ({machine['instructions']}), device {machine['device']}, "
        f"torch {machine['torch']}; matrix products reach {peak['float32'] / 1e9:.0f} GFLOP/s in float32, {low}."
    ]
    lines += table(
        ["work", "times faster", "aimed at", "ours", "theirs", "memory, ours / theirs (GB)", "of the peak"],
        [pair_row(name, found) for name, found in results["pairs"].items()],
    )
    if launches := results.get("launches"):
        rows = [[of, *(f"{count:.0f}" for count in counts.values())] for of, counts in launches.items()]
        lines += table(["on the GPU", "launches", "kernels"], rows)
    if profile := results.get("profile"):
        rows = [[part, f"{s:.2f} s"] for part, s in profile.items()]
        lines += table(["part of a step, 16 x 256 tokens", "takes"], rows)
    for name, parts in results["runs"].items():
        lines += ["", f"{name}: " + ", ".join(f"{part} {s:.1f} s" for part, s in parts.items()) + "."]
        if most := AT_MOST.get(name):
            share = 1 - parts["training"] / sum(parts.values())
            lines[-1] += f" Not training: {100 * share:.0f} %, aimed at {100 * most:.0f} % or less."
    return "\n".join(lines) + "\n"


def pair_row(name: str, found: dict) -> list[str]:
    ours, theirs = (statistics.median(found[f"seconds_{side}"]) for side in ("ours", "theirs"))
    left_out = f" ({found['pairs_left_out']} pairs left out)" if found.get("pairs_left_out") else ""
    memory = share = ""
    if "peak_bytes_ours" in found:
        memory = f"{found['peak_bytes_ours'] / 1e9:.1f} / {found['peak_bytes_theirs'] / 1e9:.1f}"
    if "share_of_peak" in found:
        share = f"{100 * found['share_of_peak']:.0f} %"
    return [
        name,
        f"{found['ratio']:.2f}{left_out}",
        AIMS.get(name, "1" if "default" in name else ""),
        f"{ours:.3g} s",
        f"{theirs:.3g} s",
        memory,
        share,
    ]


def table(titles: list[str], rows: list[list[str]]) -> list[str]:
    return ["", *(f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *rows))]


def page() -> str:
    return "\n" + report(json.loads((HERE / "avx512_bf16.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    readme = HERE / "README.md"
    above = readme.read_text(encoding="utf-8").split(MARK)[0]
    readme.write_text(above + MARK + page(), encoding="utf-8")
