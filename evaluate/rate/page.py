"""The blind comparison as one web page: no network, and the answers come back as a file of ratings."""

import json

TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>Which text is better?</title>
<style>
  body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; font: 1.05rem/1.5 Georgia, serif; }
  .text { white-space: pre-wrap; }
  .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem; margin: 1rem 0; }
  .pair .text { border-left: 3px solid #888; padding-left: 1rem; }
  button, input { font: inherit; padding: 0.3rem 0.8rem; }
  :root { color-scheme: light dark; }
</style>
<main>
  <p id="progress" role="status"></p>
  <div id="prompt" class="text"></div>
  <div class="pair"><div id="left" class="text"></div><div id="right" class="text"></div></div>
  <p id="question"></p>
  <p id="keys">
    <button value="l">left (l)</button> <button value="t">tie (t)</button> <button value="r">right (r)</button>
    <button value="b">back (b)</button>
  </p>
  <p>
    <label>Your name: <input id="rater" autocomplete="off"></label>
    <button id="save">download the answers</button> Finished pairs are in the file; send it back.
  </p>
</main>
<script>
"use strict";
const {pairs, seed, comparisons, wording} = DATA;
const questions = Object.keys(wording), $ = id => document.getElementById(id);
const store = "ratings " + comparisons.map(c => c.left_sha256 + c.right_sha256).join(" ");
let given = [];  // [letter, time] of every answer, one question after another
try { given = JSON.parse(localStorage.getItem(store)) || []; } catch { }  // a browser may keep nothing for a file
function show() {
  const number = Math.floor(given.length / questions.length), over = number >= comparisons.length;
  const comparison = over ? {prompt: "", left: "", right: ""} : comparisons[number];
  $("progress").textContent = over ? "All answered: download the answers." : `${number + 1} of ${comparisons.length}`;
  for (const part of ["prompt", "left", "right"]) $(part).textContent = comparison[part].trim();
  const question = questions[given.length % questions.length];
  $("question").textContent = over ? "" : `${question}: ${wording[question]}`;
}
function answer(key) {
  if (key === "b") given.pop();
  else if ("ltr".includes(key) && given.length < comparisons.length * questions.length)
    given.push([key, new Date().toISOString()]);
  try { localStorage.setItem(store, JSON.stringify(given)); } catch { }
  show();
}
function download() {
  const rater = $("rater").value.trim() || "reader";
  const lines = comparisons.slice(0, Math.floor(given.length / questions.length)).map((comparison, number) => {
    const own = given.slice(number * questions.length, (number + 1) * questions.length);
    const answers = Object.fromEntries(questions.map((question, i) => [question, own[i][0]]));
    const {left_sha256, right_sha256} = comparison, time = own.at(-1)[1];
    return JSON.stringify({rater, seed, pairs, number, answers, left_sha256, right_sha256, time}) + "\\n";
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, {type: "application/jsonl"}));
  link.download = "ratings.jsonl";
  link.click();
}
for (const button of $("keys").children) button.onclick = () => answer(button.value);
$("save").onclick = download;
document.onkeydown = event => {
  if (event.target !== $("rater") && !event.ctrlKey && !event.metaKey && !event.altKey && "ltrb".includes(event.key))
    answer(event.key);
};
show();
</script>
</html>
"""


def page(comparisons: list[dict], wording: dict[str, str], seed: int, pairs: int) -> str:
    """One self-contained HTML page. A downloaded line tells a comparison by seed, pairs and number alone.

    Args:
        comparisons: prompt, left and right text, and the checksums of the two, in the order in which they are shown.
        wording: what each question asks.
        seed, pairs: what the order was drawn by.
    """
    data = json.dumps({"pairs": pairs, "seed": seed, "wording": wording, "comparisons": comparisons})
    return TEMPLATE.replace("DATA", data.replace("<", "\\u003c"))  # "</script>" in a text would end the script
