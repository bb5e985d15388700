"""What a SLURM job is asked for: the `slurm:` section of a study file, and `--slurm.NAME` on the command line."""

from __future__ import annotations

import argparse
import difflib
import re
from dataclasses import dataclass, field, fields
from typing import Any

from recsys_lab.schema import RecsysLabError
from recsys_lab.study.launch.job import GRACE_SECONDS, Job

GPU = ("gpu", "cuda")


def _asked(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class SlurmSettings:
    """One allocation, and how runs are spread over allocations. Names are sbatch's where sbatch has one."""

    partition: str | None = _asked(None, "as in sbatch")
    account: str | None = _asked(None, "as in sbatch")
    qos: str | None = _asked(None, "as in sbatch")
    constraint: str | None = _asked(None, "as in sbatch")
    time: str = _asked("04:00:00", "of an allocation: HH:MM:SS, D-HH:MM:SS or minutes (default 04:00:00)")
    nodes: int | None = _asked(None, "default: the runs' trainer.num_nodes, and nothing else works")
    gpus_per_node: int | None = _asked(None, "default: the runs' trainer.devices; none for one process on any device")
    cpus_per_task: int = _asked(4, "cores of each process of a run, or of all runs side by side (default 4)", least=1)
    mem: str | None = _asked(None, "of a node, e.g. 32G")
    array_parallelism: int = _asked(64, "allocations at a time (default 64)", least=1)
    runs_per_job: int = _asked(1, "runs in one allocation (default 1)", least=1)
    side_by_side: int = _asked(1, "of these at a time, sharing its cores and GPUs (default 1)", least=1)
    requeues: int = _asked(10, "how often a job that ran out of time is queued again (default 10)", least=0)
    signal_delay: int = _asked(120, "seconds before the end at which runs are stopped (default 120)", least=1)
    setup: tuple[str, ...] = _asked((), "a command before the runs, e.g. `module load cuda`; may be repeated")
    additional_parameters: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "any other sbatch option, NAME=VALUE; may be repeated"}
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            value, least = getattr(self, f.name), f.metadata.get("least")
            if f.name in ("nodes", "gpus_per_node"):
                least = None if value is None else 0 if f.name == "gpus_per_node" else 1
            if least is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise RecsysLabError(f"slurm.{f.name}: must be a whole number of at least {least}, got {value!r}")
        if self.signal_delay <= GRACE_SECONDS:
            raise RecsysLabError(
                f"slurm.signal_delay: {self.signal_delay} s is too short: a run gets {GRACE_SECONDS:.0f} s to "
                "stop, and the job is then queued again"
            )
        if self.minutes * 60 <= self.signal_delay:
            raise RecsysLabError(
                f"slurm.time: {self.time} is {self.minutes} minutes, and runs are stopped {self.signal_delay} s before"
            )
        if self.side_by_side > self.runs_per_job:
            raise RecsysLabError(
                f"slurm.side_by_side is {self.side_by_side}, and slurm.runs_per_job {self.runs_per_job}: no more runs "
                "than are in a job can go side by side"
            )

    @property
    def minutes(self) -> int:
        """Of an allocation, rounded up."""
        return minutes_of(self.time)


def minutes_of(time: Any) -> int:
    """Of sbatch's `--time`, rounded up.

    Raises:
        RecsysLabError: when it can't be read as one.
    """
    parts = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time) if isinstance(time, str) else None
    if parts is None:
        raise RecsysLabError(
            f'slurm.time: write "HH:MM:SS" or "D-HH:MM:SS" in quotes, got {time!r} (YAML takes 4:00:00 for a number)'
        )
    days, *rest = parts.groups()
    first, second, third = (int(part or 0) for part in rest)
    if days is not None:  # days-hours[:minutes[:seconds]]
        seconds = ((int(days) * 24 + first) * 60 + second) * 60 + third
    elif rest[2] is not None:  # hours:minutes:seconds
        seconds = (first * 60 + second) * 60 + third
    else:  # minutes[:seconds]
        seconds = first * 60 + second
    return -(-seconds // 60)


# ----------------------------------------------------------------------------------------------------------------------
# from a study file and the command line


def add_slurm_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--slurm.NAME` for every setting; `slurm_settings` reads them."""
    group = parser.add_argument_group(
        "SLURM", "What each job is asked for, also as a section `slurm:` of the study file; the command line wins."
    )
    for f in fields(SlurmSettings):
        options: dict[str, Any] = {"help": f.metadata["help"], "metavar": f.name.upper()}
        if f.name in ("setup", "additional_parameters"):
            options["action"] = "append"
        elif "int" in str(f.type):
            options["type"] = int
        group.add_argument(f"--slurm.{f.name}", **options)


def slurm_settings(section: dict[str, Any], options: argparse.Namespace | None = None) -> SlurmSettings:
    """The `slurm:` section of a study file with the options of `add_slurm_options` on top.

    Raises:
        RecsysLabError: for a key that is not known or a value that can't be meant; names it.
    """
    chosen = dict(section)
    known = [f.name for f in fields(SlurmSettings)]
    for name in known:
        value = getattr(options, f"slurm.{name}", None)
        if value is not None:
            chosen[name] = value
    for name in chosen:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise RecsysLabError(
                f"slurm: unknown key {name!r}.{hint} Known: {', '.join(known)}. Other sbatch options go into "
                "additional_parameters"
            )
    setup, more = chosen.get("setup", ()), chosen.get("additional_parameters", {})
    chosen["setup"] = (setup,) if isinstance(setup, str) else tuple(setup or ())
    chosen["additional_parameters"] = _named_values(more or {})
    for name in ("partition", "account", "qos", "constraint", "mem"):
        if chosen.get(name) is not None:
            chosen[name] = str(chosen[name])
    return SlurmSettings(**chosen)


def _named_values(given: Any) -> dict[str, Any]:
    """A mapping, or a list of NAME=VALUE; a NAME alone is a switch."""
    if isinstance(given, list):
        pairs = [str(one).partition("=") for one in given]
        given = {name.lstrip("-"): value if equals else True for name, equals, value in pairs}
    if not isinstance(given, dict):
        raise RecsysLabError(f"slurm.additional_parameters: must be a mapping of sbatch options, got {given!r}")
    return given


# ----------------------------------------------------------------------------------------------------------------------
# what one run needs


@dataclass(frozen=True)
class Shape:
    """Of an allocation: nodes, processes and GPUs on each. One process of SLURM's for each process of a run."""

    nodes: int
    processes: int
    gpus: int

    @property
    def is_distributed(self) -> bool:
        return self.nodes * self.processes > 1


def shape_of(job: Job, settings: SlurmSettings) -> Shape:
    """Of the allocation that a run needs, by its trainer.num_nodes, devices and accelerator.

    Raises:
        RecsysLabError: when the settings contradict the run.
    """
    trainer = job.config.get("trainer") or {}
    nodes, accelerator = int(trainer.get("num_nodes") or 1), trainer.get("accelerator") or "auto"
    processes = _processes(trainer.get("devices"), accelerator, settings)
    is_distributed = nodes * processes > 1
    wanted = processes if is_distributed else settings.side_by_side if accelerator in GPU else 0
    wanted = 0 if accelerator == "cpu" else wanted
    gpus = wanted if settings.gpus_per_node is None else settings.gpus_per_node
    if settings.nodes not in (None, nodes):
        raise RecsysLabError(
            f"slurm.nodes is {settings.nodes}, and {job.folder} has trainer.num_nodes {nodes}: a run uses the nodes "
            "that its trainer is told of. Set trainer.num_nodes in the study's base, and leave slurm.nodes out"
        )
    if is_distributed and settings.side_by_side > 1:
        raise RecsysLabError(
            f"slurm.side_by_side is {settings.side_by_side}, and {job.folder} has {nodes * processes} processes "
            "(trainer.devices, num_nodes): such runs go one after another (slurm.runs_per_job)"
        )
    needed = processes if is_distributed else 1  # runs of one process may share a GPU
    if gpus < needed and (accelerator in GPU or (is_distributed and gpus)):
        raise RecsysLabError(f"slurm.gpus_per_node is {gpus}, and runs such as {job.folder} need {needed} on a node")
    return Shape(nodes, processes, gpus)


def _processes(devices: Any, accelerator: str, settings: SlurmSettings) -> int:
    """Of a run on each node, from trainer.devices in all the ways that it can be written."""
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part]
    if isinstance(devices, list | tuple):
        return len(devices)
    if isinstance(devices, int) and devices > 0:
        return devices
    is_cpu = accelerator == "cpu" or not settings.gpus_per_node
    return 1 if is_cpu or settings.gpus_per_node is None else max(1, settings.gpus_per_node // settings.side_by_side)
