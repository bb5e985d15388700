"""The page of a study as text, its figures as files, and the command that writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from made_results import NASTY, made_results, made_tuning

from recsys_lab.cli import main
from recsys_lab.report.palette import Palette
from recsys_lab.report.theme import DARK, LIGHT, SERIES, SERIES_DARK, SERIES_LIGHT, vega_config
from recsys_lab.study.pages.figures.learning import time_unit
from recsys_lab.study.pages.figures.looks import BASELINE, TRAINED, Looks
from recsys_lab.study.pages.figures.order_change import order_table
from recsys_lab.study.pages.sections import make_sections
from recsys_lab.study.pages.study_page import study_page
from recsys_lab.study.pages.write import write_report

STUDY = {
    "name": "tiny",
    "base": {"data.dataset": "synthetic", "model": "Popularity", "trainer.max_epochs": 1, "run.logger": "none"},
    "axes": {"model": ["Popularity", "RepeatLast"]},
}


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance of `#rrggbb`."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(colours: dict[str, str]) -> None:
    for background in ("page", "card"):
        for text in ("ink", "soft", "accent", "warning"):
            assert contrast(colours[text], colours[background]) >= 4.5, (text, background)


def test_both_modes_have_the_same_series_and_styles() -> None:
    assert len(SERIES_LIGHT) == len(SERIES_DARK) == SERIES
    assert vega_config("light")["style"].keys() == vega_config("dark")["style"].keys()


def test_a_variant_keeps_its_colour_from_figure_to_figure() -> None:
    palette = Palette([f"v{i}" for i in range(20)])
    assert palette.slots(["v3", "v1"]).index("v3") == palette.slots(["v3"]).index("v3")
    both = palette.slots(["v1", "v8"])  # of the same slot, modulo SERIES
    assert both.index("v1") == 1 and "v8" in both
    shown = palette.slots(["short"], ["v5"])
    assert shown.index("short") == 5


def test_in_a_grid_the_factor_that_matters_has_the_colours() -> None:
    results = made_results(blocks=2)  # the effect of the encoder is six times that of the length
    looks = Looks(results)
    assert looks.factors == ["encoder", "max_length"]
    block = results.blocks[0]
    rows = list(zip(block.comparison.rows, block.lines, strict=True))
    found, series = looks.of(rows)
    for (row, line), look in zip(rows, found, strict=True):
        if line.values:
            assert look == {"colour": line.values["encoder"], "form": f"max_length={line.values['max_length']}"}
        else:
            assert set(look.values()) == {BASELINE if row.is_counted else line.name}
    colour, shape = (series[part].to_dict() for part in ("color", "shape"))
    assert colour["scale"]["domain"][:2] == ["enc0", "enc1"] and shape["scale"]["domain"][0] == "max_length=20"
    assert colour["scale"]["domain"][SERIES] == BASELINE, "grey, which is behind the colours of the series"
    assert BASELINE in colour["legend"]["values"] and BASELINE not in shape["legend"]["values"]


def test_without_a_grid_each_variant_has_its_colour_and_too_many_have_one() -> None:
    results = made_results(blocks=1)
    results.axes.pop("max_length")
    block = results.blocks[0]
    for line in block.lines:
        line.values.pop("max_length", None)
    rows = [one for one in zip(block.comparison.rows, block.lines, strict=True) if not one[0].is_counted]
    looks = Looks(results)
    found, _ = looks.of(rows)
    assert looks.factors == [] and [look["colour"] for look in found] == [line.name for _, line in rows]
    many = made_results(variants=250, blocks=1, seeds=1, epochs=2)
    block = many.blocks[0]
    found, _ = Looks(many).of(list(zip(block.comparison.rows, block.lines, strict=True)))
    assert {look["colour"] for look in found} == {TRAINED, BASELINE}


def test_the_page_is_whole_and_escaped() -> None:
    html = study_page(made_results(blocks=1)).html
    assert "Which encoder &amp; which length is better?" in html
    assert NASTY not in html
    assert "ValueError: &lt;boom&gt; &amp; more" in html
    written = html.partition("<script")[0]  # what follows is data and libraries
    assert not re.search(r"""(?:src|href)=["'](?!#)|url\(|@import""", written), "something to load or to go to"
    assert html.count("</script>") == 4, "a name ended a script early"
    assert 0.8e6 < len(html) < 1.5e6
    sections = "ranking effects learning cost slices calibration runs"
    for key in sections.split():
        assert html.count(f'<section id="{key}">') == 1
    assert '<section id="order">' not in html, "a single block has no order to compare"
    assert '<section id="audit">' not in html, "there is none: a note says how to make it"


def test_figures_say_nothing_of_nan_or_colours() -> None:
    page = study_page(made_results())
    specs = json.loads(re.search(r'id="specs">(.*?)</script>', page.html, re.S)[1])  # type: ignore[index]
    assert set(specs) == {figure.name for figure in page.figures}
    for name, spec in specs.items():
        assert not re.search(r"#[0-9a-f]{6}", json.dumps(spec)), f"{name}: a colour of one mode"
        assert spec["description"]


def test_axes_are_in_the_unit_that_people_use() -> None:
    assert [time_unit(seconds)[0] for seconds in (0.5, 119, 120, 7200, 200_000)] == [
        "seconds",
        "seconds",
        "minutes",
        "hours",
        "days",
    ]
    page = study_page(made_results(blocks=1, epochs=3))
    specs = {figure.name: json.dumps(figure.spec()) for figure in page.figures}
    assert (
        '"tickMinStep": 1' in specs["learning-epochs-data-0"]
        and "since the fit began" in specs["learning-seconds-data-0"]
    )
    assert "~s" not in specs["front-train-seconds-data-0"], "100m is no tenth of a second"


def test_the_title_of_a_single_block_is_said_once() -> None:
    results = made_results(blocks=1)
    titles = [card.title for section in make_sections(results) for card in section.cards]
    assert titles.count(results.blocks[0].title) == 1


def test_many_variants_stay_a_page_that_says_what_it_leaves_out() -> None:
    results = made_results(variants=250, blocks=1, seeds=2, epochs=20)
    page = study_page(results)
    assert len(page.html) < 4e6
    notes = {figure.name.removesuffix("-data-0"): figure.note for figure in page.figures}
    assert "30 best of 253 rows" in notes["ranking"]
    assert f"{SERIES} best of 250 variants" in notes["learning-epochs"]
    ranking = make_sections(results)[0].cards[0].tables_first[0]
    assert len(ranking.rows) == 253


def test_blocks_with_one_shared_variant_have_no_ranks() -> None:
    results = made_results(blocks=3)
    alone = results.blocks[2]
    alone.comparison.rows[:], alone.lines[:] = alone.comparison.rows[:1], alone.lines[:1]
    assert all(ranks[2] is None and ranks[0] is not None for ranks in order_table(results).values())


def test_tuning_shows_what_each_search_found_and_its_curve_over_the_budget() -> None:
    page = study_page(made_results(blocks=1, epochs=4), made_tuning(searches=9, trials=5))
    notes = {figure.name: figure.note for figure in page.figures}
    assert f"{SERIES} best of 9 searches" in notes["tuning-trials"]
    table = make_sections(made_results(blocks=1, epochs=4), made_tuning(trials=5))
    rows = (
        next(section for section in table if section.key == "tuning")
        .cards[0]
        .tables_first[0]
        .only(["trials", "default"])
    )
    assert [[cell.text for cell in row] for row in rows.cells][0] == ["5", "-"], "the failed default has no value"
    assert [row[0].value for row in rows.cells] == [5, 5, 5]
    single = study_page(made_results(blocks=1, epochs=4), made_tuning(searches=1, trials=1))
    assert not any(figure.name.startswith("tuning") for figure in single.figures)


def test_figures_are_written_as_svg_and_png(tmp_path: Path) -> None:
    results = made_results(blocks=1, epochs=6)
    page = study_page(results)
    written = write_report(results, page, tmp_path / "made" / "here")
    names = {path.name for path in written}
    assert {"report.html", "report.md", "report.tex", "results.parquet"} <= names
    for figure in page.figures:
        svg = (tmp_path / "made/here/figures" / f"{figure.name}.svg").read_text()
        assert svg.startswith("<svg") and "NaN" not in svg
        assert (tmp_path / "made/here/figures" / f"{figure.name}.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.rglob("*.partial"))


def study_file(folder: Path) -> str:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    return str(file)


def test_a_study_without_a_finished_run_has_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "runs"
    assert main(["study", "report", study_file(tmp_path), "--root", str(root)]) == 1
    error = capsys.readouterr().err
    assert "no run of the study 'tiny'" in error and "2 missing" in error
    assert not root.exists()


def test_the_command_writes_every_file_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from recsys_lab.study.plan import make_plan, read_study
    from recsys_lab.study.plan.remembered import Resolver

    file, root = study_file(tmp_path), tmp_path / "runs"
    overrides = {"data.data_dir": str(tmp_path / "data")}
    for run in make_plan(read_study(file, root, overrides=overrides), Resolver()).runs:
        config = tmp_path / f"{run.variant.label}.yaml"
        config.write_text(yaml.safe_dump(run.config))
        assert main(["fit", "--config", str(config)]) == 0
    capsys.readouterr()
    output = tmp_path / "report"
    data = ["--data-dir", str(tmp_path / "data")]
    command = ["study", "report", file, "--root", str(root), *data, "--output", str(output), "--no-baselines"]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:4] == [str(output / n) for n in ("report.html", "report.md", "report.tex", "results.parquet")]
    assert all(Path(line).is_file() for line in printed[:4])
    html = (output / "report.html").read_text()
    assert "Popularity" in html and "RepeatLast" in html
    assert len(list((output / "figures").glob("*.svg"))) == len(list((output / "figures").glob("*.png"))) > 1
