"""Dates and times as text, ISO 8601 and its relatives -> microseconds."""

from __future__ import annotations

import polars as pl

FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
RARE_FORMATS = ("%Y-%m-%dT%H:%M%:z", "%Y-%m-%dT%H:%M:%S,%3f", "%Y/%m/%d", "%Y/%m/%dT%H:%M:%S%.f", "%Y/%m/%dT%H:%M")


def iso_microseconds(value: pl.Expr, rare: bool = False) -> pl.Expr:
    """ISO 8601 text as microseconds since 1970; null where it can't be read. Without a zone it is taken as UTC.

    Args:
        value: Text.
        rare: Also what databases print: zones `+00`, ` UTC`, ` +0000 UTC`, ` GMT`, `z`; the compact form
            20200913T125919Z; a comma before the fraction; slashes in the year-month-day order.
    """
    text = value.str.strip_chars()
    if rare:
        text = (
            text.str.replace(r"^([\d/-]+) ", "${1}T")
            .str.replace("Z$", "+00:00")
            .str.replace(r"^(\d{4})(\d{2})(\d{2})T", "$1-$2-${3}T")
            .str.replace(r"T(\d{2})(\d{2})(\d{2})?", "T$1:$2:$3")
            .str.replace(r"T(\d{2}):(\d{2}):([+-]|$)", "T$1:$2$3")
            .str.replace(r"\s*(UTC|GMT|z)$", "+00:00")
            .str.replace(r"\s*([+-]\d{2}):?(\d{2})?\+00:00$", "$1:$2")  # ` +0000 UTC`: the offset is said twice
            .str.replace(r"(T.*?)\s*([+-]\d{2}):?$", "$1$2:00")
            .str.replace(r"(T.*?)\s*([+-]\d{2}):?(\d{2})$", "$1$2:$3")
            .str.replace(r"(T\d{2}:\d{2}:\d{2}),", "$1.")
        )
        return pl.coalesce(_parsed(text, form) for form in (*FORMATS, *RARE_FORMATS))
    text = text.str.replace(" ", "T", literal=True).str.replace("Z$", "+00:00")
    return pl.coalesce(_parsed(text, form) for form in FORMATS)


def _parsed(text: pl.Expr, form: str) -> pl.Expr:
    zone = "UTC" if form.endswith("%:z") else None
    return text.str.to_datetime(form, strict=False, time_unit="us", time_zone=zone).dt.epoch("us")
