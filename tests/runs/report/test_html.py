"""The report opens in a real browser, escapes the repository's text, and exists after an interruption."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

from blocklm.config.mining import MiningArguments
from blocklm.corpus.curation import curate
from blocklm.errors import UserError
from blocklm.files import write_json
from blocklm.interrupts import Interrupted
from blocklm.runs.manifest import Manifest, read_manifest
from blocklm.runs.report.html import reporting, write_html_report
from blocklm.runs.report.series import POINTS_SHOWN, thin
from tests.conftest import ROOT, GitRepository, changes_of, function, rendered
from tests.support.programs import do_without

SCRIPT = "<script>document.title='taken'</script>"
IMAGE = '"><img src="https:'  # a path: git and the file system allow it
FETCH = "<img src=http://127.0.0.1:9/x onerror=document.title='taken'>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
COLOURS = re.compile(r"--([\w-]+): (#[0-9a-f]{6})")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory without weights, of a repository whose subjects, paths and lines are HTML."""
    from torch.utils.tensorboard import SummaryWriter

    from blocklm.evaluation.exam.compare import compare
    from blocklm.evaluation.exam.items import ExamItem
    from blocklm.models.tokenization.encode import Encoded

    root = tmp_path_factory.mktemp("hostile")
    repository = GitRepository(root / "project")
    module = ""
    for number in range(30):
        module += function(number, f'return "{FETCH} \u202e{number}"')
        repository.commit(f"Step {number} {SCRIPT} costs $1 and $2", {f"src/{IMAGE}.py": module})
    changes = changes_of(repository.path, root / "corpora")
    corpus = rendered(changes, curate(changes, MiningArguments(corpus_dir=str(root / "corpora"))), root / "corpora")
    test = corpus.splits["test"]
    encoded = Encoded([1], [1], [True], False)
    items = [
        ExamItem(row["id"], row["commit"], row["path"], f"{row['language']}{SCRIPT}", row["added"][1] - row["added"][0], encoded)
        for row in test
    ]  # fmt: skip
    base = [100.0 + at for at in range(len(items))]
    tuned = [bits * (0.8 if at % 3 else 1.02) for at, bits in enumerate(base)]
    change = {"delta": 0.1, "ci95": [-0.1, 0.3], "p": 0.2, "p_holm": 0.4, "verdict": "no detectable change"}
    scores = {"edit_similarity": 0.25, "copy_floor": 0.875}
    edit = {"items": 8, "commits": 7, "score": "edit_similarity", "base": scores, "tuned": scores, "change": change}
    exam = compare(items, {"base": base, "tuned": tuned, "base+bm25": base}) | {"tasks": {"edit": edit}}
    run = root / "runs" / "hostile"
    recipe = {
        "repo": [str(repository.path)], "corpus_dir": str(root / "corpora"), "model_name_or_path": "models/tiny",
        "use_peft": True, "output_dir": str(run), "author_weights": {"Ada Lovelace": 0.5}, "hub_token": "hf_secret",
    }  # fmt: skip
    manifest = Manifest(run / "manifest.json", recipe)
    manifest.update(repository=changes.report["repository"], corpus=corpus.report | {"cache": "built"})
    with manifest.phase("train"):
        writer = SummaryWriter(str(run / "tensorboard"))
        for step in range(1, 9):
            series = {"train/loss": 2 - step / 8, "train/grad_norm": 1.0, "hardware/gpu_temp_c": 50 + step}
            for tag, value in series.items():
                writer.add_scalar(tag, value, step)
        writer.close()
    manifest.update(exam={key: value for key, value in exam.items() if key != "per_item"})
    write_json(run / "exam.json", exam)
    rows = [
        {"step": step, "item": f"{SCRIPT}{at}", "task": f"task{SCRIPT}", "prompt": SCRIPT, "output": f"</code></pre>{FETCH}\u202e",
         "truth": SCRIPT, "scores": {"edit_similarity": step / 8, f"parse{SCRIPT}": True}}
        for step in (0, 4, 8) for at in range(3)
    ]  # fmt: skip
    rows += [
        {"step": step, "item": name, "task": "completion", "path": f"{name}{IMAGE}.py", "prompt": "", "prefix": "\n".join(map(str, range(20))) + "\nreturn ",
         "suffix": f"\n{SCRIPT}\n", "output": output, "truth": truth, "scores": {"edit_similarity": 0.0}}
        for name, truth in (("short", "x"), ("long", "the_right_name"))
        for step, output in ((0, "a_guess"), (4, "between"), (8, f"the_right_{FETCH}"))
    ]  # fmt: skip
    (run / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"step": 8, "it')
    manifest.finish("complete")
    return run


@pytest.fixture
def run(hostile: Path, tmp_path: Path) -> Path:
    """A copy of that run to change."""
    return Path(shutil.copytree(hostile, tmp_path / "run", ignore=shutil.ignore_patterns("report.html")))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium, the system's or the one that `playwright install chromium` fetches."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=found, chromium_sandbox=os.geteuid() != 0)
        except Error as error:
            do_without(f"Chromium, to look at the report with ({error.message[:100]}),", "chromium")
        yield chromium
        chromium.close()


def opened(browser: Browser, path: Path, **options: Any) -> tuple[Page, list[str]]:
    """Open the page, and list its console messages, errors and requests."""
    page, events = browser.new_page(**options), []
    page.on("console", lambda message: events.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: events.append(f"error: {error}"))
    page.on("request", lambda request: events.append(f"request: {request.url}"))
    page.goto(path.as_uri())
    events.remove(f"request: {path.as_uri()}")
    return page, events


def content(run: Path) -> dict[str, Any]:
    found = read_manifest(run)
    assert found is not None
    return found


def test_a_browser_shows_the_report_and_runs_nothing_from_the_repository(hostile: Path, browser: Browser) -> None:
    page, events = opened(browser, write_html_report(hostile), viewport={"width": 390, "height": 800})
    assert events == []
    assert page.title() == "project: BlockLM report"
    assert page.evaluate("document.scripts.length + document.images.length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shown = page.inner_text("body")
    assert "On 7 later commits that it had not seen, the tuned model needs" in shown
    assert SCRIPT in shown
    assert FETCH in shown
    assert f"{IMAGE}.py" in shown
    assert "\u202e" not in page.content()
    assert "\\u202e" in shown
    charts = page.locator("svg[role=img]")
    assert charts.count() == page.locator("svg").count() == 7  # interval, edits, loss, norm, two scores, temperature
    for chart in charts.all():
        box = chart.bounding_box()
        assert box is not None
        assert box["width"] > 250
        assert box["height"] > 50
    assert any(
        "Loss. training: 1.875 nats per token at step 1, 1 at 8" in str(chart.get_attribute("aria-label"))
        for chart in charts.all()
    )


def test_the_example_in_the_documentation_is_one_file_that_opens(browser: Browser) -> None:
    example = ROOT / "docs" / "example-report.html"
    assert example.stat().st_size <= 1 << 20
    _, events = opened(browser, example)
    assert events == []


def test_the_report_follows_the_colour_scheme_and_prints_dark_on_light(hostile: Path, browser: Browser) -> None:
    page, _ = opened(browser, write_html_report(hostile), color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    line = "getComputedStyle(document.querySelector('#training svg path[style*=series-1]')).stroke"
    dark = page.evaluate(background), page.evaluate(line)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(background), page.evaluate(line)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert page.locator("details table").first.is_visible()


def test_every_colour_has_enough_contrast(hostile: Path) -> None:
    """WCAG 2.2: text 4.5 to 1, lines of a chart 3 to 1, on either background of either scheme."""
    css = write_html_report(hostile).read_text().split("<style>")[1]
    for scheme in css.split("@media", 2)[:2]:
        colours = dict(COLOURS.findall(scheme))
        for role, least in [
            (role, 3.0 if role.startswith("series") else 4.5)
            for role in colours
            if role not in ("page", "panel", "line", "mark")
        ]:
            assert min(contrast(colours[role], colours[ground]) for ground in ("page", "panel")) >= least, (
                role,
                scheme,
            )
        assert contrast(colours["text"], colours["mark"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_ids_are_unique_and_headings_are_nested(hostile: Path) -> None:
    page = write_html_report(hostile).read_text()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.count("<table>") == page.count("<caption>")


def test_the_task_table_shows_how_each_task_is_judged(hostile: Path) -> None:
    page = write_html_report(hostile).read_text()
    table = page[page.index("What the models do") :].partition("</table>")[0]
    for cell in ("edit similarity", "0.250 \N{RIGHTWARDS ARROW} 0.250", "no detectable change"):
        assert cell in table


def test_one_completion_is_shown_first_as_an_editor_would(hostile: Path, browser: Browser) -> None:
    """Of the questions of both steps the longest truth is chosen, whatever the answers are."""
    page, _ = opened(browser, write_html_report(hostile))
    shown = page.locator("section[aria-label='One completion']")
    assert shown.locator("h3").inner_text() == f"long{IMAGE}.py"
    texts = shown.locator("pre").all_inner_texts()
    assert [text.split("\n") for text in texts] == [
        [*map(str, range(13, 20)), f"return {answer}", SCRIPT, ""]
        for answer in ("a_guess", f"the_right_{FETCH}", "the_right_name")
    ]
    assert shown.locator("ins").all_inner_texts() == ["a_guess", f"the_right_{FETCH}", "the_right_name"]


def test_what_was_asked_again_says_whether_it_was_this_repository(run: Path) -> None:
    exam = json.loads((run / "exam.json").read_text())
    change = {"delta_percent": -2.0, "ci95": [-2.9, -1.2], "verdict": "better"}
    name = f"control:{SCRIPT}"
    arm = {"bits_per_byte": 1.5, "against_base": change, "tuned_against_it": change}
    again = exam | {
        "arms": {name: arm},
        "rank": {"place": 1, "of": 2},
        "controls": [{"name": name, "own_gain": None}],
        "controls_mean": {"mean_bits_per_byte": 1.5, "tuned_against_it": change},
        "identifiers": {
            "bm25": {"nowhere in the prompt": change | {"count": 150, "few": True, "base": 9.0, "tuned": 8.0}}
        },
    }
    write_json(run / "exam-again.json", again)
    page = unescape(write_html_report(run).read_text())
    assert (
        "Among 2 adapters, the run's own and 1 of other repositories, its own is number 1 on this repository: the "
        "tuned model needs 2.0\N{NO-BREAK SPACE}% fewer bits per byte than the mean of the others"
    ) in page
    table = page[page.index("The own adapter is number 1 of 2") :].partition("</table>")[0]
    assert f'{name}</th><td class="n">1.5000</td>' in table
    table = page[page.index("Bits for an identifier of this repository") :].partition("</table>")[0]
    for cell in ("nowhere in the prompt, with bm25", "9.00 \N{RIGHTWARDS ARROW} 8.00", "too few to tell"):
        assert cell in table


def test_the_report_holds_no_private_path_name_or_token(hostile: Path) -> None:
    page = write_html_report(hostile).read_text()
    for private in (str(hostile.parent.parent), "Lovelace", "hf_secret", "example.org"):
        assert private not in page
    assert 'from_pretrained("hostile")' in unescape(page)


def test_the_best_and_the_worst_items_are_shown_with_the_truth(run: Path) -> None:
    page = write_html_report(run).read_text()
    helped, hurt = page.split("Where training helped most")[1].split("Where it hurt most")
    hurt = hurt.split("</section>")[0]
    for part, change in ((helped, "\N{MINUS SIGN}20.0"), (hurt, "+2.0")):
        assert part.count("<h4") == part.count(change) == part.count(">What the commit wrote") >= 2
        assert "<ins>" in part
    elsewhere = content(run) | {"recipe": content(run)["recipe"] | {"corpus_dir": "nowhere"}}
    write_json(run / "manifest.json", elsewhere)
    page = write_html_report(run).read_text()
    assert page.count("the text stands in that commit") == helped.count("<h4") + hurt.count("<h4")


def test_the_report_tells_how_often_the_definitions_were_met(run: Path) -> None:
    exposures = {
        "definitions": 1200,
        "p10": 1.0,
        "p50": 12.0,
        "p90": 80.0,
        "never_met": 0.041,
        "target": 30,
        "reached": 0.25,
    }
    before = content(run)
    write_json(run / "manifest.json", before | {"corpus": before["corpus"] | {"exposures": exposures}})
    page = write_html_report(run).read_text()
    assert "The target of 30 times is reached for 25.0 %." in page
    assert (
        "Training meets half of the 1,200 definitions of the repository 12 times or more, a tenth 1 time at most, a "
        "tenth 80 times at least, and 4.1 % never."
    ) in page


def test_the_report_tells_what_its_server_found_out(run: Path) -> None:
    curve = [
        {"threshold": 1 / at, "shown": at / 4, "right": right} for at, right in enumerate((1.0, 0.5, 0.25, 0.25), 1)
    ]
    write_json(run / "silence.json", {"threshold": 0.5, "places": 4, "curve": curve})
    row = {"characters": 20, "first_line": 8, "probability": 0.5}
    lines = [json.dumps(row | {"kept": kept}) for kept in (20, 20, 8, 7, 0, None)]
    (run / "feedback.jsonl").write_text("\n".join(lines) + '\n{"char')
    page = unescape(write_html_report(run).read_text())
    assert (
        "the server shows the 50 % whose first line the model finds likelier than 0.5; 50 % of those lines are right, "
        "and 25 % of all."
    ) in page
    assert "right: 100 % at percent shown 25, 25 at 100," in page
    table = page[page.index("Texts shown in an editor") :].partition("</table>")[0]
    counts = [int(cell) for cell in re.findall(r'class="n">(\d+)</td>', table)]
    assert counts == [2, 1, 2, 1], "whole, first line, rejected, not known"


@pytest.mark.parametrize("content", ['{"threshold": 0.5, "places": 4, "cur', "[1]"], ids=["cut off", "another"])
def test_damaged_files_are_left_out_with_a_warning(run: Path, caplog: pytest.LogCaptureFixture, content: str) -> None:
    files = [run / name for name in ("exam.json", "exam-again.json", "silence.json", "feedback.jsonl")]
    files[0].unlink()
    without = write_html_report(run).read_bytes()
    for file in files:
        file.write_text(f"{content}\n")
    assert write_html_report(run).read_bytes() == without
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    torn = content != "[1]"  # a kill leaves a last line of feedback.jsonl like this, which is not worth a word
    assert [message.partition("` is damaged")[0] for message in told] == [f"`{file}" for file in files[: 4 - torn]]


def test_a_run_of_days_fits_into_a_megabyte(run: Path) -> None:
    history = [{"step": step, "loss": 1 / step, "grad_norm": 1.0} for step in range(1, 100_001)]
    write_json(run / "manifest.json", content(run) | {"training": {"loss_history": history}})
    with (run / "samples.jsonl").open("w") as file:
        for at in range(200):
            texts = {"prompt": "p" * 9000, "output": "<" * 60_000}
            file.write(
                f"{json.dumps({'step': at % 10, 'item': at // 10, 'task': f't{at % 9}', 'scores': {'s': at}} | texts)}\n"
            )
    assert write_html_report(run).stat().st_size <= 1 << 20


def test_a_spike_is_kept_in_a_reduced_series() -> None:
    points = tuple((float(step), 90.0 if step == 77_777 else step % 7 / 7) for step in range(100_000))
    kept = thin(points)
    assert len(kept) <= POINTS_SHOWN
    assert (77_777.0, 90.0) in kept
    assert list(kept) == sorted(kept)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Interrupted(2), "The run was interrupted in its train phase: nothing is proved yet."),
        (ValueError(f"no space {SCRIPT}"), "The run failed in its train phase (no space &lt;script&gt;"),
    ],
)
def test_an_interrupted_or_failed_run_has_a_report(run: Path, error: BaseException, text: str) -> None:
    """The manifest of such a run has no `training`: the curves come from TensorBoard's files."""
    before = content(run)
    manifest = Manifest(run / "manifest.json", before["recipe"])
    manifest.update(repository=before["repository"], corpus=before["corpus"])
    with pytest.raises(type(error)), reporting(run, True), manifest.phase("train"):
        raise error
    page = (run / "report.html").read_text()
    assert text in page
    assert "Loss. training: 1.875 nats per token at step 1" in page
    assert "there is nothing to load yet" in page


def test_a_run_without_training_and_a_process_that_does_not_write_leave_no_report(run: Path) -> None:
    recipe = content(run)["recipe"]
    with reporting(run, False):
        pass
    manifest = Manifest(run / "manifest.json", recipe)
    with pytest.raises(UserError), reporting(run, True), manifest.phase("mine"):
        raise UserError("an empty history", "commit something")
    assert not (run / "report.html").exists()
    assert "interrupted" in write_html_report(run).read_text()  # asked for, it is built from what there is


def test_a_report_that_fails_does_not_fail_the_run(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run / "manifest.json").write_text("torn")
    with reporting(run, True):
        pass
    assert "`python scripts/report.py" in caplog.text
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("exam", "training", "text"),
    [
        ({"delta_percent": 2.0, "ci95": [1.0, 3.0], "verdict": "worse"}, None,
         "the tuned model needs 2.0 % more bits per byte than the base model (95 % interval 1.0 % to 3.0 % more)."),
        ({"delta_percent": -1.0, "ci95": [-3.0, 1.0], "verdict": "no detectable change"}, None,
         "shows no detectable change against the base model: -1.0 % bits per byte (95 % interval -3.0 % to +1.0 %)."),
        ({"delta_percent": -5.0, "ci95": [-6.0, -4.0], "verdict": "better",
          "against_previous": {"delta_percent": 2.0, "ci95": [1.0, 3.0], "verdict": "worse"}}, {"rolled_back": True},
         "the run that it continues (95 % interval 1.0 % to 3.0 % more). It was therefore rolled back"),
    ],
)  # fmt: skip
def test_the_verdict_states_the_exam_result(
    run: Path, exam: dict[str, Any], training: dict[str, Any] | None, text: str
) -> None:
    found = content(run)
    write_json(run / "manifest.json", found | {"exam": found["exam"] | exam, "training": training})
    page = write_html_report(run).read_text().replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")
    assert text in page
