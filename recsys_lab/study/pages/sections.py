"""What stands on the page, top to bottom: sections of cards, each with tables, figures and facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from recsys_lab.audit.audit_text import audit_tables, checks_table, headline
from recsys_lab.report.figure import Figure
from recsys_lab.report.page import Card, Section
from recsys_lab.report.palette import Palette
from recsys_lab.runs.comparison_table import evaluation_line
from recsys_lab.study.pages import tables
from recsys_lab.study.pages.figures.effect_bars import effects_figure
from recsys_lab.study.pages.figures.fronts import front_figures
from recsys_lab.study.pages.figures.learning import learning_figures
from recsys_lab.study.pages.figures.looks import Looks
from recsys_lab.study.pages.figures.order_change import order_figure
from recsys_lab.study.pages.figures.ranking import READ, ranking_figure
from recsys_lab.study.pages.figures.share_heat import share_figure
from recsys_lab.study.pages.figures.slice_bars import slice_figures
from recsys_lab.study.results import Block, StudyResults
from recsys_lab.study.results.block import SLICES
from recsys_lab.words import number_of

if TYPE_CHECKING:
    from recsys_lab.study.tune.results import TuningResults

MANY_MISSING = 8
"""Planned runs without a result, above which their table is closed."""


def make_sections(results: StudyResults, tuning: TuningResults | None = None) -> list[Section]:
    """Sections with something in them; all but the first open with a click."""
    from altair.utils.schemapi import debug_mode

    with debug_mode(False):  # altair would check every part of every chart as it is made, which takes most of the time
        sections = [section for section in _sections(results, tuning) if section.cards]
        if len(results.blocks) == 1:  # its title stands above the ranking, and need not be said in every section
            title = results.blocks[0].title
            sections = [one if one.key == "ranking" else _without(one, title) for one in sections]
        first, *others = sections
        return [first, *(replace(section, is_folded=True) for section in others)]


def _without(section: Section, title: str) -> Section:
    return replace(
        section, cards=[replace(one, title="", is_closed=False) if one.title == title else one for one in section.cards]
    )


def _sections(results: StudyResults, tuning: TuningResults | None) -> list[Section]:
    """In the order in which a reviewer asks."""
    looks = Looks(results)

    def of_blocks(key: str, title: str, card: Callable[[Block], Card | None], lead: str = "") -> Section:
        return Section(key, title, [found for block in results.blocks if (found := card(block))], lead)

    return [
        Section("shares", "Share of the best possible score", _shares(results), tables.SHARES),
        of_blocks("ranking", "Ranking", lambda block: _ranking(block, looks, block is results.blocks[0])),
        Section("published", "Published numbers beside ours", _published(results), tables.PUBLISHED),
        of_blocks("effects", "Is it significant?", _effects),
        Section("order", "Does the order change?", _order(results, looks)),
        of_blocks("cost", "Is it fair? Quality against cost", lambda b: _figures(b, front_figures(b, looks))),
        Section("trials", "Is it fair? Trials", _trials(results), tables.TRIALS),
        Section("tuning", "Is it fair? Tuning", *_tuned(tuning)),
        of_blocks("learning", "Has it converged?", lambda block: _figures(block, learning_figures(block, looks))),
        of_blocks("slices", "Where does it come from?", lambda block: _slices(block, looks)),
        of_blocks("calibration", "Is it calibrated?", _calibration),
        of_blocks("audit", "What are the data?", _audit),
        Section("runs", "What is left out, and what was run", _runs(results)),
    ]


def _shares(results: StudyResults) -> list[Card]:
    figure = share_figure(results)
    return [Card(figures=[figure], tables=[tables.shares(results)])] if figure is not None else []


def _figures(block: Block, figures: list[Figure]) -> Card | None:
    return Card(block.title, figures=figures) if figures else None


def _slices(block: Block, looks: Looks) -> Card | None:
    notes = " ".join(note.removeprefix(SLICES) for note in block.notes if note.startswith(SLICES))
    figures = slice_figures(block, looks)
    return Card(block.title, f"Shown: {notes}." * bool(notes), figures=figures) if figures else None


def _ranking(block: Block, looks: Looks, is_first: bool) -> Card:
    text = f"{evaluation_line(block.evaluation, is_titled=True)}; {block.users:,} users. " + " ".join(
        note for note in block.notes if not note.startswith(SLICES)
    )
    text = f"{READ} {text}" if is_first else text
    figure = ranking_figure(block, looks)
    return Card(block.title, text, [tables.ranking(block, on_page=True)], [figure])


def _published(results: StudyResults) -> list[Card]:
    return [Card(tables_first=[tables.published(results)])] if results.published else []


def _trials(results: StudyResults) -> list[Card]:
    return [Card(tables_first=[tables.trials(results)])] if results.trials else []


def _effects(block: Block) -> Card | None:
    if not block.effects:
        return None
    figure, table = effects_figure(block), tables.effects(block, tables.axes_of(block))
    return Card(block.title, figures=[figure] if figure else [], tables=[table])


def _order(results: StudyResults, looks: Looks) -> list[Card]:
    figure = order_figure(results, looks)
    if figure is None:
        return []
    cards = [Card(figures=[figure], tables=[tables.ranks(results)])]
    agreement = Card("How far the orders agree", tables_first=[tables.orders(results)])
    return [*cards, agreement] if results.orders else cards


def _tuned(tuning: TuningResults | None) -> tuple[list[Card], str]:
    """Cards, and what stands above them."""
    from recsys_lab.study.tune.tune_text import tuning_answer

    return ([], "") if tuning is None else (_tuning(tuning, Palette()), tuning_answer(tuning))


def _tuning(tuning: TuningResults, palette: Palette) -> list[Card]:
    from recsys_lab.study.pages.figures.tuning_curves import tuning_figures
    from recsys_lab.study.tune.tune_text import searches_table

    trials = number_of(tuning.trials, "trial")
    text = f"The same budget for each search: {trials}, sampler {tuning.sampler}, pruner {tuning.pruner}."
    groups = tuning.comparable()
    if len(groups) == 1:
        return [Card("", text, [searches_table(tuning)], tuning_figures(groups[0], tuning.select, palette))]
    cards = [Card("", text, [searches_table(tuning)])]
    for place, group in enumerate(groups):
        shared = {a: v for a, v in group[0].values.items() if all(one.values.get(a) == v for one in group)}
        title = ", ".join(shared.values()) or f"{place + 1}. {group[0].label}"
        figures = tuning_figures(group, tuning.select, palette, f"-{place}")
        cards += [Card(title, "Searches on the same data, split and evaluation.", figures=figures)] if figures else []
    return cards


def _calibration(block: Block) -> Card | None:
    table = tables.calibration(block)
    return Card(block.title, tables_first=[table]) if table.rows else None


def _audit(block: Block) -> Card | None:
    facts = block.audit
    text = " ".join(part for part in (facts.note, f"File: {facts.file}" if facts.file else "") if part)
    if facts.content is None:
        return None  # a note above says how to make one
    found = [checks_table(facts.content).only(["of", "share"]), *audit_tables(facts.content)]
    return Card(block.title, f"{headline(facts.content)} {text}", facts=found, is_closed=True)


def _runs(results: StudyResults) -> list[Card]:
    missing = tables.missing(results)
    cards = []
    if missing.rows:
        count = len(missing.rows)
        cards.append(
            Card(f"Planned runs without a result: {count}", tables_first=[missing], is_closed=count > MANY_MISSING)
        )
    for block in results.blocks:
        table = tables.provenance(block.records, f"Runs on {block.title}")
        title = f"{block.title}: {number_of(len(block.records), 'run')}"
        cards.append(Card(title, tables_first=[table], is_closed=True))
    return cards
