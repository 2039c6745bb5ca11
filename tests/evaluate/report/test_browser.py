"""The page in a real browser, where there is one: at two widths, in the dark, printed; focus and hover on a copy."""

import os

import pytest

from evaluate.report.page import write_report
from tests.evaluate.handmade import continuation, result_of, write_runs

if os.name == "nt":
    pytest.skip("the pipe to the browser needs file descriptors", allow_module_level=True)

from browser import Browser, find_browser

# Whether an element is seen as a whole: shown, and inside the window.
SEEN = """(element => {
  const box = element.getBoundingClientRect();
  return getComputedStyle(element).display !== "none" && box.width > 0 && box.height > 0
    && box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
})"""
PASSAGES = 'Array.from(document.querySelectorAll(".passage"))'


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Three learning rates: with the base model and the book five columns. The words are many, and some very long."""
    folder = tmp_path_factory.mktemp("page")
    copied = [{"start": 1, "tokens": 4, "passage": "before it and after it"}]
    text = continuation(copied)
    text["pieces"] = text["pieces"] * 5 + [" Brobdingnagian" * 3 + "Brobdingnagian" * 4]
    text["frequent"] = text["frequent"] * 5 + [False]
    results = []
    for lr in (3e-3, 3e-4, 3e-5):
        steps = [
            {"sample": s, "held_out_loss": 4.0, "kl": 0.1, "copied": 0.0, "continuations": [text]} for s in (0, 40)
        ]
        result = result_of(lr, checkpoints=steps)
        result["after"]["continuations"] = [text, text]
        results.append(result)
    return write_report([write_runs(folder / "sweep", *results)], folder / "page.html")


def test_five_columns_of_texts_stand_side_by_side(browser, page):
    browser.open(page, 1280)
    boxes = browser.run("""Array.from(document.querySelector(".texts").children, article => {
      const box = article.getBoundingClientRect();
      return [box.left, box.right, box.top, article.scrollWidth - article.clientWidth];
    })""")
    assert len(boxes) == 5 and len({top for _, _, top, _ in boxes}) == 1
    assert all(left >= 0 and right <= 1280 - 15 for left, right, _, _ in boxes)  # a scroll bar takes 15
    assert all(right <= left for (_, right, _, _), (left, _, _, _) in zip(boxes, boxes[1:]))
    assert all(over <= 0 for _, _, _, over in boxes)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_does_not_scroll_sideways(browser, page, width):
    browser.open(page, width)
    browser.run('document.querySelectorAll("details").forEach(details => { details.open = true; })')
    assert browser.run("document.documentElement.scrollWidth") <= width
    # Nor is anything cut off at the side: the tables have become cards, and the figures fill the window.
    wide = 'Array.from(document.querySelectorAll(".wide"), part => part.scrollWidth - part.clientWidth)'
    assert width > 390 or max(browser.run(wide)) <= 0
    images = browser.run("Array.from(document.images, image => [image.clientWidth, image.naturalWidth])")
    assert len(images) == 5 and all(300 < shown < drawn for shown, drawn in images)


def test_texts_begin_early_and_figures_come_first(browser, page):
    browser.open(page, 1280)
    tops = browser.run(
        '["figures", "table", "texts"].map(id => document.getElementById(id).getBoundingClientRect().top)'
    )
    assert tops == sorted(tops) and tops[0] < 800 and tops[2] < 3000


@pytest.mark.parametrize("width", [1280, 390])
def test_a_passage_appears_where_the_mouse_points(browser, page, width):
    browser.open(page, width)
    assert browser.run(f'{PASSAGES}.every(passage => getComputedStyle(passage).display === "none")')
    x, y = browser.run("""(mark => {
      mark.scrollIntoView({block: "center"});
      const box = mark.getClientRects()[0];
      return [box.left + box.width / 2, box.top + box.height / 2];
    })(document.querySelector("article mark"))""")
    browser.point_at(x, y)
    assert browser.run(f'{SEEN}(document.querySelector("article mark + .passage"))')
    assert browser.run(f'{PASSAGES}.filter(passage => getComputedStyle(passage).display !== "none").length') == 1
    browser.point_at(1, 1)
    assert browser.run(f'{PASSAGES}.every(passage => getComputedStyle(passage).display === "none")')


def test_a_passage_appears_at_what_the_tab_key_reaches(browser, page):
    browser.open(page, 1280)
    reached = []
    for _ in range(60):
        browser.press_tab()
        focused = browser.run(
            "[document.activeElement.tagName, document.activeElement.getAttribute('aria-describedby')]"
        )
        if focused[0] == "MARK":
            reached.append(focused[1])
            assert browser.run(f'{SEEN}(document.getElementById("{focused[1]}"))')
            assert browser.run(f"{SEEN}(document.activeElement)")  # the browser scrolls there
            assert browser.run('getComputedStyle(document.activeElement).outlineStyle !== "none"')
        if len(reached) == 2:
            break
    assert len(set(reached)) == 2
    assert browser.run(f'{PASSAGES}.filter(passage => getComputedStyle(passage).display !== "none").length') == 1


def test_a_heading_of_the_table_leads_to_its_definition(browser, page):
    browser.open(page, 1280)
    assert not browser.run('document.getElementById("meaning").open')
    browser.run("""new Promise(done => {
      addEventListener("hashchange", done, {once: true});
      document.querySelector('th a[href="#copied"]').click();
    }).then(() => 0)""")
    assert browser.run('document.getElementById("meaning").open')
    assert browser.run(f'{SEEN}(document.getElementById("copied"))')


def test_dark_is_dark_and_print_shows_what_is_closed(browser, page):
    light = """(style => [style.backgroundColor, style.color].map(
      colour => colour.match(/[0-9]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part) / 765, 0)
    ))(getComputedStyle(document.body))"""
    browser.open(page, 1280, scheme="dark")
    assert not browser.run('document.querySelector("#meaning dl").checkVisibility()')
    paper, ink = browser.run(light)
    assert paper < 0.2 and ink > 0.8
    browser.open(page, 720, medium="print")
    paper, ink = browser.run(light)
    assert paper == 1 and ink == 0
    assert browser.run('document.querySelector("#meaning dl").checkVisibility()')
    assert browser.run(f'{PASSAGES}.every(passage => getComputedStyle(passage).display === "inline")')
    assert browser.ask("Page.printToPDF")["data"].startswith("JVBERi0")  # %PDF-
