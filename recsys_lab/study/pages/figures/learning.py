"""Learning curves of one block: validation metric over epochs and over seconds."""

from __future__ import annotations

from typing import Any

from recsys_lab.report.figure import Figure, data_of, points
from recsys_lab.report.theme import SERIES
from recsys_lab.study.pages.figures.looks import Looks
from recsys_lab.study.results import Block

MOST_POINTS = 200
"""Per curve; longer ones are thinned, their best epoch is kept."""
UNITS = (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


def learning_figures(block: Block, looks: Looks) -> list[Figure]:
    """One over epochs and one over seconds, of the best variants that were trained, each seed a line."""
    import altair as alt

    trained = sorted({curve.row for curve in block.curves})
    shown = trained[:SERIES]
    if not shown:
        return []
    lines = {row: block.lines[row] for row in shown}
    found, series = looks.of([(block.comparison.rows[row], line) for row, line in lines.items()])
    look = dict(zip(shown, found, strict=True))
    metric = block.curves[0].metric
    rows: list[dict[str, Any]] = []
    for curve in block.curves:
        if curve.row not in shown:
            continue
        measured = [i for i, value in enumerate(curve.values) if value == value]
        every = max(1, len(measured) // MOST_POINTS)
        kept = [i for k, i in enumerate(measured) if k % every == 0 or curve.epochs[i] == curve.best_epoch]
        rows += [
            {
                "name": block.lines[curve.row].name,
                **look[curve.row],
                "seed": curve.seed,
                "epoch": int(curve.epochs[i]) + 1,
                "seconds": round(float(curve.seconds[i]), 2),
                "value": round(float(curve.values[i]), 6),
                "best": bool(curve.epochs[i] == curve.best_epoch),
                "stopped": curve.stopped_by,
            }
            for i in kept
        ]
    note = (
        f"Each line is a run, and its mark is the epoch that was kept. Click {looks.chosen_by} to highlight its runs."
    )
    if len(trained) > len(shown):
        note += f" Drawn: the {len(shown)} best of {len(trained)} variants."
    figures = []
    unit, size = time_unit(max(row["seconds"] for row in rows))
    for row in rows:
        row["time"] = round(row["seconds"] / size, 4)
    whole, times = alt.Axis(format="d", tickMinStep=1), alt.Axis(format=",~r", tickCount=5)
    for x, title, field, axis in (
        ("epochs", "epochs", "epoch", whole),
        ("seconds", f"{unit} since the fit began", "time", times),
    ):
        chosen = alt.selection_point(fields=["colour"], bind="legend", name="chosen")
        base = alt.Chart().encode(
            x=alt.X(f"{field}:Q", title=title, axis=axis),
            y=alt.Y("value:Q", title=metric, scale=alt.Scale(zero=False)),
            opacity=alt.condition(chosen, alt.value(0.9), alt.value(0.08)),
        )
        tips = [
            alt.Tooltip("name:N", title="variant"),
            alt.Tooltip("seed:Q"),
            alt.Tooltip("epoch:Q", title="epochs"),
            alt.Tooltip("seconds:Q", format=",.0f"),
            alt.Tooltip("value:Q", title=metric, format=".4f"),
            alt.Tooltip("stopped:N", title="stopped by"),
        ]
        chart = alt.layer(
            base.mark_line(strokeWidth=1.6).encode(
                color=series["color"], strokeDash=series["strokeDash"], detail=["name:N", "seed:N"]
            ),
            base.mark_point(filled=True, size=60).transform_filter("datum.best").encode(**points(series), tooltip=tips),
            data=data_of(rows),
        )
        figures.append(
            Figure(
                f"learning-{x}-{block.key}",
                f"{metric} over {title.partition(' ')[0]}",
                chart.add_params(chosen).properties(height=280),
                f"Learning curves of {', '.join(line.name for line in lines.values())} on {block.title}, over {title}",
                note,
            )
        )
    return figures


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which people tell so long a time, and its seconds."""
    return next(((name, size) for name, size in UNITS if seconds >= 2 * size), UNITS[-1])
