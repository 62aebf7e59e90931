"""Pages as a browser shows them: by mouse, by keyboard, on a phone, in the dark, on paper."""

import pytest

import idm_ray
from tests.page import browser as browsing
from tests.page.making import cell, write_comparison, write_search, write_set

pytestmark = pytest.mark.skipif(
    browsing.what_is_missing() is not None, reason=str(browsing.what_is_missing())
)
NAMES = [str(digit) for digit in range(10)]
LEFT, RIGHT, TAB, ENTER, HOME = "\ue012", "\ue014", "\ue004", "\ue007", "\ue011"


@pytest.fixture(scope="module")
def browser():
    with browsing.browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(finished, tmp_path_factory):
    """A page of each kind."""
    root = tmp_path_factory.mktemp("browser")
    for name in ("a", "b"):
        write_set(root / "compared" / name / "condensed.parquet")
    cells = [cell("dm", 1, folder="a"), cell("idm", 1, folder="b"), cell("idm", 10)]
    write_comparison(root / "compared", cells)
    write_search(root / "searched")
    found = {}
    for name, folder in {
        "run": finished,
        "comparison": root / "compared",
        "search": root / "searched",
    }.items():
        found[name] = root / f"{name}.html"
        idm_ray.write_report(folder, out=found[name])
    return found


@pytest.fixture
def run(browser, pages):
    """The browser, at the page of a run."""
    browser.open(pages["run"])
    return browser


# --- nothing but the page ---


@pytest.mark.parametrize("name", ["run", "comparison", "search"])
def test_a_page_opens_without_a_complaint_and_without_another_request(browser, pages, name):
    browser.open(pages[name])
    loaded = browser.run(
        "return [...document.images].map(image => image.complete && image.naturalWidth > 0)"
    )
    assert loaded
    assert all(loaded)
    assert browser.console() == []
    assert browser.requested() == [pages[name].resolve().as_uri()]


@pytest.mark.parametrize(
    ("directive", "attempt"),
    [
        ("img-src", "new Image().src = 'http://127.0.0.1:9/picture.png'"),
        ("connect-src", "fetch('http://127.0.0.1:9/').catch(() => 0)"),
        (
            "script-src-elem",
            "document.body.append(Object.assign(document.createElement('script'),"
            " {textContent: 'document.title = 1'}))",
        ),
        (
            "style-src-elem",
            "document.body.append(Object.assign(document.createElement('link'),"
            " {rel: 'stylesheet', href: 'http://127.0.0.1:9/style.css'}))",
        ),
    ],
)
def test_the_policy_of_a_page_stops_what_would_ask_for_more(run, directive, attempt):
    stopped = run.driver.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));"
        + attempt
    )
    assert stopped == directive


# --- going from class to class ---


def test_one_class_is_shown_at_first_and_buttons_go_on_and_back(run):
    assert run.shown() == ["0"]
    assert run.status() == "1 of 10: 0"
    run.click("[data-step='1']")
    run.click("[data-step='1']")
    assert run.shown() == ["2"]
    assert run.status() == "3 of 10: 2"
    for _ in range(3):
        run.click("[data-step='-1']")
    assert run.shown() == ["9"]  # behind the first one comes the last
    run.click("[data-step='1']")
    assert run.shown() == ["0"]


def test_arrow_keys_do_the_same_wherever_the_focus_is(run):
    run.press(RIGHT, RIGHT, RIGHT)
    assert run.shown() == ["3"]
    run.press(LEFT)
    assert run.shown() == ["2"]
    run.run("document.querySelector(\"[data-step='1']\").focus()")
    run.press(RIGHT)
    assert run.shown() == ["3"]
    run.press(ENTER)
    assert run.shown() == ["4"]


def test_arrow_keys_stay_with_what_takes_them_itself(run):
    for selector in ("pre", ".scroll", "[data-zoom]"):
        run.run("document.querySelector(arguments[0]).focus()", selector)
        run.press(RIGHT)
        assert run.shown() == ["0"]


def test_the_list_of_classes_shows_one_or_all(run):
    run.run("document.querySelector('[data-class]').focus()")
    run.press("7")
    assert run.shown() == ["7"]
    run.press(HOME)
    assert run.shown() == NAMES
    assert run.status().startswith("10 classes;")
    run.click("[data-step='-1']")
    assert run.shown() == ["9"]


def test_a_link_to_a_class_shows_it(browser, pages):
    browser.open(pages["run"], anchor="#class-5")
    assert browser.shown() == ["5"]


def test_the_shown_class_is_told_to_those_who_do_not_see_it(run):
    live = run.run("return document.querySelector('[data-status]').getAttribute('aria-live')")
    assert live == "polite"


def test_everything_can_be_reached_by_the_keyboard_and_where_one_is_can_be_seen(run):
    reached = []
    while "BODY" not in reached:
        run.press(TAB)
        name, style, width = run.run(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return [e.tagName + [...e.attributes].map(a => ' ' + a.name).join(''),"
            "        s.outlineStyle, s.outlineWidth];"
        )
        reached.append(name)
        assert name == "BODY" or (style, width) == ("solid", "2px"), name
    text = "\n".join(reached)
    for expected in ("A class href", "BUTTON", "data-class", "data-zoom", "DIV class", "PRE"):
        assert expected in text, expected


# --- pixels ---


def test_pixels_are_whole_and_sharp_and_can_be_made_larger(run):
    sizes = (
        "const image = document.querySelector('.pictures img');"
        "const real = document.querySelector('.pictures .real');"
        "return [image.width, image.naturalWidth, real.width, real.naturalWidth,"
        "        getComputedStyle(image).imageRendering];"
    )
    assert run.run(sizes) == [80, 8, 80, 16, "pixelated"]
    run.run("document.querySelector('[data-zoom]').focus()")
    run.press("4")
    assert run.run(sizes) == [32, 8, 32, 16, "pixelated"]


# --- every screen, and paper ---


@pytest.mark.parametrize("name", ["run", "comparison", "search"])
@pytest.mark.parametrize("width", [320, 390, 768])
def test_no_page_is_wider_than_a_phone(browser, pages, name, width):
    browser.open(pages[name], width=width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return document.body.scrollWidth") <= width


def test_a_table_that_is_wider_scrolls_in_its_own_box(browser, pages):
    browser.open(pages["comparison"], width=390)
    found = browser.run(
        "return [...document.querySelectorAll('.scroll')].map(e => [e.clientWidth, e.scrollWidth])"
    )
    assert all(client <= 390 for client, _ in found)
    assert any(inside > client for client, inside in found)


def test_in_the_dark_paper_letters_and_plots_change(browser, pages):
    colors = (
        "const of = (selector, name) => getComputedStyle(document.querySelector(selector))[name];"
        "return [of('body', 'backgroundColor'), of('body', 'color'), of('.plot svg text', 'fill'),"
        "        of('.plot svg', 'fill')];"
    )
    browser.open(pages["run"])
    light = browser.run(colors)
    browser.open(pages["run"], dark=True)
    dark = browser.run(colors)
    assert luminance(light[0]) > 0.9
    assert luminance(light[1]) < 0.1
    assert luminance(dark[0]) < 0.1
    assert luminance(dark[1]) > 0.7
    for paper, ink, *drawn in (light, dark):
        assert {*drawn} == {ink}, paper


@pytest.mark.parametrize("dark", [False, True])
def test_all_that_is_written_stands_out_from_what_it_is_written_on(browser, pages, dark):
    browser.open(pages["run"], dark=dark)
    found = browser.run(
        "const root = getComputedStyle(document.body).backgroundColor;"
        "return [...document.querySelectorAll('p, h1, h2, h3, h4, dt, dd, td, th, a, figcaption,"
        " small, text')].map(e => [e.textContent, getComputedStyle(e).color, root]);"
    )
    for text, ink, paper in found:
        light, heavy = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (heavy + 0.05) >= 4.5, text  # WCAG 2, AA


def luminance(color):
    """Relative luminance of rgb(...), as WCAG 2 defines it."""
    channels = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_on_paper_all_classes_are_printed_and_no_buttons(browser, pages):
    browser.open(pages["run"], media="print", dark=True)
    assert browser.shown() == NAMES
    controls = "return document.querySelector('[data-controls]').getClientRects().length"
    assert browser.run(controls) == 0
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert luminance(paper) > 0.9


def test_without_scripts_all_classes_are_there(browser, pages):
    try:
        browser.open(pages["run"], script=False)
        assert browser.shown() == NAMES
        controls = "return document.querySelector('[data-controls]').getClientRects().length"
        assert browser.run(controls) == 0
    finally:
        browser.open(pages["run"])
