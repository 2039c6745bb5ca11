"""The tables of the benchmark, from the files that it wrote: `python -m tests.bench.page` puts them into README.md."""

import json
import statistics
from pathlib import Path

from tests.bench.rows import AIMS, AT_MOST, DEFAULT_STEP, PEAK_SHARE, STEP_BYTES

HERE = Path(__file__).resolve().parent
MARK = "<!-- From here on python -m tests.bench.page writes. -->\n"
MACHINES = {
    "avx512_bf16.json": "AVX-512 with bfloat16",
    "amx.json": "AMX: bfloat16 in hardware (measured before attention by windows and compiled models were added)",
    "avx512.json": "AVX-512 without bfloat16",
    "avx2.json": "AVX2 only",
}


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
    if alone := results.get("alone"):
        rows = [[name, f"{alone[name]:.2f}", f"{most:.2f}"] for name, most in AT_MOST.items() if name in alone]
        lines += table(["ours alone", "measured", "at most"], rows)
        for name, parts in alone.items():
            if isinstance(parts, dict):
                lines += ["", f"{name}: " + ", ".join(f"{part} {s:.0f} s" for part, s in parts.items()) + "."]
    if profile := results.get("profile"):
        rows = [[part, f"{s:.2f} s", f"{least:.2f} s" if least else ""] for part, (s, least) in profile.items()]
        rows.append(["in all", *(f"{sum(filter(None, column)):.2f} s" for column in zip(*profile.values()))])
        lines += table(["part of a step, 16 x 256 tokens", "takes", "needs at least"], rows)
    if results["scaling"]:
        rows = [
            [row["varies"], str(row["value"]), f"{row['tokens_per_second']:.0f}", f"{row['peak_bytes'] / 1e9:.1f}"]
            for row in results["scaling"]
        ]
        lines += table(["ours, varying", "value", "tokens/s", "memory (GB)"], rows)
    return "\n".join(lines) + "\n"


def pair_row(name: str, found: dict) -> list[str]:
    ours, theirs = (statistics.median(found[f"seconds_{side}"]) for side in ("ours", "theirs"))
    left_out = f" ({found['pairs_left_out']} pairs left out)" if found.get("pairs_left_out") else ""
    memory = share = ""
    if "peak_bytes_ours" in found:
        memory = f"{found['peak_bytes_ours'] / 1e9:.1f} / {found['peak_bytes_theirs'] / 1e9:.1f}"
    if "share_of_peak" in found:
        share = f"{100 * found['share_of_peak']:.0f} %"
    aim = str(AIMS.get(name, ""))
    if name == DEFAULT_STEP:
        aim += f"; {STEP_BYTES / 1e9} GB and {100 * PEAK_SHARE:.0f} % in bfloat16"
    return [name, f"{found['ratio']:.2f}{left_out}", aim, f"{ours:.3g} s", f"{theirs:.3g} s", memory, share]


def table(titles: list[str], rows: list[list[str]]) -> list[str]:
    return ["", *(f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *rows))]


def page() -> str:
    """All that was measured, machine by machine."""
    parts = []
    for file, title in MACHINES.items():
        parts.append(f"\n## {title}\n\n{report(json.loads((HERE / file).read_text(encoding='utf-8')))}")
    return "".join(parts)


def main() -> None:
    readme = HERE / "README.md"
    above = readme.read_text(encoding="utf-8").split(MARK)[0]
    readme.write_text(above + MARK + page(), encoding="utf-8")


if __name__ == "__main__":
    main()
