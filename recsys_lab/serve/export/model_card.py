"""README.md of an exported model: what it is, what it was trained on, how good it was, and what it is for."""

from __future__ import annotations

from typing import Any

import polars as pl

from recsys_lab.data.sources import get_source, source_names
from recsys_lab.serve.loaded import LoadedModel
from recsys_lab.statistics.resampling import bootstrap_interval, bootstrap_means, user_sums

RESAMPLES = 2_000
METRICS = ("hit_rate", "ndcg", "mrr")


def model_card(loaded: LoadedModel, format: str, checked: dict[str, Any]) -> str:
    """Markdown."""
    spec, manifest = loaded.spec, loaded.manifest
    name = type(loaded.model).__name__
    loss, seed, ended = (manifest.get(key, "not recorded") for key in ("loss", "seed", "stopped_by"))
    lines = [
        f"# {name} on {spec.dataset}",
        "",
        f"A next-item recommender, exported as {format} by recsys_lab. `sidecar.json` says what its numbers mean.",
        "",
        "## Training",
        "",
        f"- Data: {spec.dataset} (data hash `{spec.data_hash}`), {spec.num_items:,} items, {spec.num_users:,} users.",
        f"- Licence of the data: {_licence(spec.dataset)}",
        f"- Split: {spec.split}; windows of {spec.max_length} events.",
        f"- Loss: {loss}. Seed: {seed}. Ended by: {ended}.",
        f"- Parameters: {sum(p.numel() for p in loaded.model.parameters()):,}.",
        "",
        "## Metrics",
        "",
        *_metrics(loaded),
        "",
        "## Intended use",
        "",
        "Ranking the items of this catalogue for a history of events like those it was trained on. It says nothing",
        "of items without training events. Its numbers hold for the data, the split and the exclusions above, not for",
        "others. It repeats what people did, also habits that a service may not want to repeat. Not for decisions",
        "about people.",
        "",
        "## Check",
        "",
        "Replayed against the model before this file was left:",
        "",
        *[
            f"- `{file}`: {one['histories']} histories, scores within {one['largest_difference']:.1e} of the largest, "
            f"{one['same_lists']} lists the same in every place, the others but for near-ties."
            for file, one in checked.items()
            if file != "tables"
        ],
        *_tables(checked.get("tables")),
    ]
    return "\n".join(lines) + "\n"


def _tables(packed: dict[str, Any] | None) -> list[str]:
    """What packing the table of items did."""
    if packed is None:
        return []
    saved = f"The table of items is {packed['kind']}: {packed['bytes']:,} bytes instead of {packed['bytes_before']:,}."
    lost = packed["quality"]
    if lost is None:
        return ["", f"{saved} What that loses was not measured: the prepared data of the run was not there."]
    low, high = lost["interval"]
    return [
        "",
        f"{saved} {lost['metric']}: {lost['after']:.4f} instead of {lost['before']:.4f}, a difference of "
        f"{lost['difference']:+.5f} [{low:+.5f}, {high:+.5f}], 95 %, paired over {lost['users']:,} users.",
    ]


def _licence(dataset: str) -> str:
    if dataset not in source_names():
        return "not known to recsys_lab: this is not one of its public data sets. Add it here before you pass this on."
    source = get_source(dataset)
    return f"{source.licence} ({source.homepage})" if source.homepage else str(source.licence)


def _metrics(loaded: LoadedModel) -> list[str]:
    """Of the test, with intervals over users."""
    folder, manifest = loaded.folder, loaded.manifest
    if folder is None or not (folder / "values.parquet").is_file():
        return ["None is recorded: the checkpoint has no run folder with a test."]
    values = pl.read_parquet(folder / "values.parquet").filter(pl.col("user").is_not_null())
    evaluation = manifest.get("evaluation", {})
    lines = [
        f"On {evaluation.get('test_targets', 0):,} test targets, all items ranked, seen items excluded: "
        f"{evaluation.get('exclude_seen', 'not recorded')}. Intervals: 95 %, over users.",
        "",
        "| metric | value | interval |",
        "| --- | ---: | ---: |",
    ]
    for metric in sorted(set(values["metric"])):
        if metric.partition("@")[0] in METRICS:
            own = values.filter(pl.col("metric") == metric)
            users = own["user"].rank("dense").to_numpy()
            sums, counts = user_sums(own["value"].to_numpy()[:, None], users, own["weight"].to_numpy())
            ((low, high),) = bootstrap_interval(bootstrap_means(sums, counts, RESAMPLES), sums, counts)
            lines.append(f"| {metric} | {sums.sum() / counts.sum():.4f} | [{low:.4f}, {high:.4f}] |")
    return lines
