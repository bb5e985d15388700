"""An audit as tables: for the terminal and as Markdown."""

from __future__ import annotations

from textwrap import indent
from typing import Any

from recsys_lab.audit.checks import WORTH_A_WORD, mends
from recsys_lab.report.escapes import plain, prose
from recsys_lab.report.table import Cell, Column, Table, markdown, show, text
from recsys_lab.report.terminal import wrapped

UNKNOWN = "not known"
INDENT = "  "


def audit_tables(audit: dict[str, Any]) -> list[Table]:
    """The tables of an audit, in the order of reading."""
    return [_sizes(audit), _distributions(audit), *_time(audit), _order(audit), _parts(audit), _rules(audit)]


def checks_table(audit: dict[str, Any]) -> Table:
    """Each check, the worst first; those that can't be known say so."""
    columns = [Column("check"), Column("share", "bar"), Column("of")]
    rows = [
        {
            "check": Cell(name, style="code"),
            "share": Cell(percent(check["value"]).rjust(9), value=check["value"]),
            "of": check["meaning"],
        }
        for name, check in sorted(audit["checks"].items(), key=lambda item: -(item[1]["value"] or 0))
        if check["value"] is not None or name != "future_items"
    ]
    return Table(columns, rows, "Checks: shares that should be small")


def mends_table(audit: dict[str, Any]) -> list[Table]:
    """What can be done about high shares, the worst first; no table where nothing is high."""
    rows = [
        {"share": Cell(percent(share).rjust(9), value=share), "what": what, "of": Cell(", ".join(names), style="code")}
        for share, names, what in mends(audit)
    ]
    columns = [Column("share", "bar"), Column("what"), Column("of")]
    return [Table(columns, rows, "What to do, the worst first")] if rows else []


def headline(audit: dict[str, Any]) -> str:
    """What the split means for a claim, in a few sentences."""
    return " ".join([leak(audit), *behind(audit)])


def answer(audit: dict[str, Any]) -> str:
    """Can results on this data and split be believed? In at most 25 words."""
    value = audit["checks"]["future_events"]["value"]
    if value:
        return f"Not as a forecast: {_begun_small(leak(audit))}"
    beyond = " and ".join(_out_of_reach(audit, {"seen": "were seen before", "cold": "are cold"}))
    of_targets = f"but of the test targets {beyond}." if beyond else ""
    if value is None:
        return f"This can't be known without timestamps{f', {of_targets}' if beyond else '.'}"
    return (
        f"In part: no training event is later than the test, {of_targets}"
        if beyond
        else f"Yes: {_begun_small(leak(audit))}"
    )


def leak(audit: dict[str, Any]) -> str:
    """In one sentence, what training knows of the future."""
    value = audit["checks"]["future_events"]["value"]
    if value is None:
        return "The data has no timestamps: whether the split leaks across time can't be known."
    if not value:
        return "No training event is later than the earliest test target."
    return f"{percent(value)} of the training events are later than the earliest test target."


def behind(audit: dict[str, Any]) -> list[str]:
    """Sentences that explain the answer."""
    lines = []
    if audit["checks"]["future_events"]["value"]:
        share = percent(audit["leakage"]["test"]["future_events_per_target"])
        lines.append(f"For an average target, {share} of the training events are later.")
        lines.append("Numbers under this split are of models that were trained on the future.")
    words = {"seen": "were seen before (out of reach while `exclude_seen` is history)", "cold": "are cold"}
    many = _out_of_reach(audit, words)
    return lines + ([f"Of the test targets {' and '.join(many)}."] if many else [])


def _out_of_reach(audit: dict[str, Any], words: dict[str, str]) -> list[str]:
    """Test targets that can't be hit, where they are many. words: of each kind."""
    shares = {name: audit["checks"][f"{name}_targets"]["value"] or 0 for name in words}
    return [f"{percent(share)} {words[name]}" for name, share in shares.items() if share >= WORTH_A_WORD]


def _begun_small(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def as_text(audit: dict[str, Any], width: int | None = None) -> str:
    """For the terminal; `width`: characters of a line, None = as long as it is."""
    said = headline(audit) if width is None else wrapped(headline(audit), width)
    parts = [f"{audit['dataset']['name']}, split {audit['split']['name']}\n{said}"]
    room = None if width is None else width - len(INDENT)
    named = [(table.title, table) for table in [*audit_tables(audit), *fields_table(audit)]]
    named += [("Checks (names for --fail-on)", checks_table(audit))]
    for title, table in [*named, *((table.title, table) for table in mends_table(audit))]:
        parts.append(f"{title}\n{indent(text(table, title == 'Fields', room), INDENT)}")
    return "\n\n".join(parts)


def as_markdown(audit: dict[str, Any]) -> str:
    about = audit["dataset"]
    parts = [
        f"# Audit of {plain(about['name'])}",
        prose(f"Split: {audit['split']['name']}. {headline(audit)}"),
        f"Data {about['data_hash']}, items {about['vocabulary_hash']}, split {audit['split']['split_hash']}.",
    ]
    for table in [*audit_tables(audit), *fields_table(audit)]:
        parts += [f"## {table.title}", markdown(table), *([prose(table.note)] if table.note else [])]
    parts += ["## Checks", markdown(checks_table(audit))]
    for table in mends_table(audit):
        parts += [f"## {table.title}", markdown(table)]
    return "\n\n".join(parts) + "\n"


def _facts(title: str, rows: list[tuple[str, str]], note: str = "") -> Table:
    columns = [Column("what"), Column("value")]
    return Table(columns, [{"what": what, "value": value} for what, value in rows], title, note)


def percent(value: float | None) -> str:
    """A share with three digits; never rounded to 0 % or 100 % unless it is exactly that."""
    if value is None:
        return UNKNOWN
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    return "< 0.01 %" if value < 1e-4 else "> 99.99 %" if value > 0.9999 else f"{100 * value:.2f} %"


def duration(seconds: float | None) -> str:
    """12 s, 3.5 min, 7.0 h, 12.3 days."""
    if seconds is None:
        return UNKNOWN
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:.4g} s"


def _sizes(audit: dict[str, Any]) -> Table:
    card = audit["card"]
    rows = [(name, f"{card[name]:,}") for name in ("users", "items", "events")]
    rows.append(("density (share of user-item pairs that occur)", percent(card["density"])))
    rows += [(f"events of type {name}", f"{count:,}") for name, count in card["event_types"].items()]
    first, *filters = card["steps"] or [None]
    rows += [("events before the filters", f"{first['events']:,}")] if filters else []
    rows += [(f"events after {step['name']}", f"{step['events']:,}") for step in filters]
    rows += [(f"left out: {what}", f"{count:,}") for what, count in card["left_out"].items()]
    return _facts("Sizes", rows, f"Licence: {audit['dataset']['licence']}." if audit["dataset"]["licence"] else "")


def _distributions(audit: dict[str, Any]) -> Table:
    rows = []
    for title, about in (("events per user", "history_length"), ("events per item", "popularity")):
        found = audit["card"][about]
        q = found["quantiles"]
        values = (found["min"], q["0.5"], found["mean"], q["0.9"], found["max"])
        text = " / ".join(f"{v:,.1f}".removesuffix(".0") for v in values)
        rows.append((f"{title}: smallest / median / mean / 90 % / largest", text))
    popularity = audit["card"]["popularity"]
    rows += [
        ("events on the most popular 1 % of items", percent(popularity["top_1_percent_share"])),
        ("events on the most popular 10 % of items", percent(popularity["decile_shares"][0])),
        ("Gini coefficient of popularity", f"{popularity['gini']:.3f}"),
    ]
    return _facts("Histories and popularity", rows)


def _time(audit: dict[str, Any]) -> list[Table]:
    time = audit["card"]["time"]
    if time is None:
        return [_facts("Time", [("timestamps", "none, only an order")])]
    return [
        _facts(
            "Time",
            [
                ("first event", _moment(time["first"])),
                ("last event", _moment(time["last"])),
                ("days", f"{time['days']:,.1f}"),
                ("resolution of the clock", duration(time["resolution_seconds"])),
                ("median time between a user's events", duration(time["median_gap_seconds"])),
                ("median time from a user's first to last event", duration(time["median_user_span_days"] * 86400)),
            ],
        )
    ]


def _moment(iso: str) -> str:
    return iso[:16].replace("T", " ") + " UTC"


def _order(audit: dict[str, Any]) -> Table:
    order = audit["order"]
    names = {
        "tied_events": "events inside a timestamp tie",
        "repeated_events": "events that repeat an earlier user-item pair",
        "consecutive_repeats": "events that repeat the event just before",
        "duplicate_events": "duplicate events",
        "duplicate_users": "users with another user's history",
        "duplicate_users_of_5_events": "the same with at least 5 events",
    }
    rows = [(text, UNKNOWN if order[name] is None else f"{order[name]:,}") for name, text in names.items()]
    return _facts("Ties, repeats and duplicates", rows)


def fields_table(audit: dict[str, Any]) -> list[Table]:
    """The further columns of the data, one row each; no table where there are none."""
    if not audit["fields"]:
        return []
    columns = [
        Column("field", value=lambda field: field["key"]),
        Column("kind", value=_kind),
        Column("values", ",.0f"),
        Column("missing", ">", value=lambda field: Cell(percent(field["missing"]), value=field["missing"])),
        Column("drift", ".3f"),
    ]
    note = (
        "Drift: training events against test targets. Of categories it is the total variation distance (0: the same "
        "shares, 1: no value in common), of numbers and vectors the distance of the means in standard deviations."
    )
    return [Table(columns, audit["fields"], "Fields", note)]


def _kind(field: dict[str, Any]) -> str:
    several = f", up to {field['width']}" if field["kind"] == "multi" else ""
    size = f" of {field['width']}" if field["kind"] == "vector" else several
    asked = ", known when asked" if field["known_at"] == "query" else ""
    return field["kind"] + size + asked + (f", {field['conflicts']:,} disagree" if field["conflicts"] else "")


def _parts(audit: dict[str, Any]) -> Table:
    leak = audit["leakage"]
    rows = [
        ("training events", f"{leak['training_events']:,}"),
        ("items with training events", f"{leak['training_items']:,}"),
    ]
    cold = audit.get("cold_items")  # an audit of before has none
    if cold is not None and cold["items"]:
        known = f"{cold['items']:,}, {cold['with_fields']:,} of them with a field"
        rows.append(("items without, which are cold", known))
    for part, name in (("val", "validation"), ("test", "test")):
        found = leak[part]
        rows.append((f"{name} targets", f"{found['targets']:,} of {found['users']:,} users" if found else "none"))
    rows += [(f"left out: {reason}", f"{count:,}") for reason, count in leak["dropped"].items()]
    if audit["recommendations"]:
        about = audit["recommendations"]
        rows.append(("recommendations audited", f"{about['rows']:,} for {about['users']:,} users"))
        rows.append(("time of a recommendation", about["time"]))
    return _facts(f"Split: {audit['split']['name']}", rows)


def rule_text(rule: dict[str, Any]) -> str:
    """`30; shuffled 0.7 (-97.8 %)`: rules in the data, after shuffling, and the change. rule: of `order_rules`."""
    left = sum(rule["rules_shuffled"]) / len(rule["rules_shuffled"])
    change = "" if rule["change"] is None else f" ({show(rule['change'], '+.1%')})"
    return f"{rule['rules']:,}; shuffled {left:,.1f}{change}"


def _rules(audit: dict[str, Any]) -> Table:
    rows = [(f"{rule['n']}-gram rules", rule_text(rule)) for rule in audit["rules"]]
    first = audit["rules"][0]
    note = (
        f"A rule: a run of items that occurs more than {first['support_above']} times and makes up more than "
        f"{first['confidence_above']:.0%} of the occurrences of all but its last item. Shuffled: each user's events in "
        "random order. Near -100 %, order carries the rules; near 0 %, it plays no part (Klenitskiy et al. 2024)."
    )
    return _facts("Is it sequential?", rows, note)
