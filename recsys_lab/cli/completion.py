"""`recsys-lab completion`: what a shell needs to complete commands, options and values.

The script is text that is made once: completing starts no Python.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Literal

from recsys_lab.cli.trainer_commands import HELP
from recsys_lab.cli.typed import parser_of

FUNCTION = """_recsys_lab() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} first=2 words=
  case $command in %(groups)s) [[ $COMP_CWORD -gt 2 ]] && command="$command ${COMP_WORDS[2]}"; first=3 ;; esac
  if [[ $COMP_CWORD -eq 1 ]]; then
    words="%(commands)s"
  elif [[ $word != -* ]]; then
    case "$command $before" in
%(values)s
    esac
  fi
  if [[ -z $words && ($word == -* || $COMP_CWORD -lt $first) ]]; then
    case "$command" in
%(options)s
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _recsys_lab recsys-lab"""


def completion(shell: Literal["bash", "zsh"]) -> None:
    """Prints what a shell needs to complete commands, options and their values. Write it to a file once, and let the
    shell read it as it starts:

        recsys-lab completion bash > ~/.recsys-lab.bash
        echo 'source ~/.recsys-lab.bash' >> ~/.bashrc

        recsys-lab completion zsh > ~/.recsys-lab.zsh
        echo 'source ~/.recsys-lab.zsh' >> ~/.zshrc

    Args:
        shell: which one.
    """
    start = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n" if shell == "zsh" else ""
    print(start + script())


def script() -> str:
    from recsys_lab.cli import COMMANDS, GROUPS

    options, values = [], []
    for name, words, of_options in _commands():
        options.append(f'      "{name}") words="{" ".join(words)}" ;;')
        values += [f'      "{name} {option}") words="{" ".join(known)}" ;;' for option, known in of_options.items()]
    options += [f'      {group}) words="{" ".join(below)}" ;;' for group, below in GROUPS.items()]
    return FUNCTION % {
        "groups": "|".join(GROUPS),
        "commands": " ".join(COMMANDS),
        "values": "\n".join(values),
        "options": "\n".join(options),
    }


def _commands() -> Iterator[tuple[str, list[str], dict[str, list[str]]]]:
    """Each command, its options, and those of its options and first words that have known values."""
    from recsys_lab.cli import COMMANDS, GROUPS, RUN
    from recsys_lab.data.sources import source_names
    from recsys_lab.runs.fit.known_configs import known_configs

    places = {name: place for name, (place, _) in COMMANDS.items() if name not in GROUPS}
    places |= {f"{group} {name}": place for group, below in GROUPS.items() for name, (place, _) in below.items()}
    for name, place in places.items():
        if place == RUN:
            text = (HELP / f"{name}.txt").read_text(encoding="utf-8")
            words = sorted(set(re.findall(r"(?<=\s)--[\w.]+\w", text)))
            known = {"--config": known_configs(), "-c": known_configs(), "--data.dataset": source_names()}
            yield name, words, known | _classes(text)
            continue
        module, _, function = place.partition(":")
        parser = parser_of(getattr(importlib.import_module(module), function), name)
        found: dict[str, list[str]] = {"prepare": source_names(), "audit": source_names()}
        known = {name.split()[-1]: found[name]} if name in found else {}
        for action in parser._actions:
            find = getattr(action, "find_choices", None)
            if find is not None:
                known |= {option: find() for option in action.option_strings or [name.split()[-1]]}
        yield name, parser.known(), known


def _classes(text: str) -> dict[str, list[str]]:
    """Options of a first screen whose values are classes -> their names."""
    found = {}
    for option in ("--model", "--model.loss", "--model.negatives"):
        row = re.search(rf"^{re.escape(option)} \w+\t(.*)", text, re.MULTILINE)
        if row is not None:
            found[option] = re.findall(r"(?<![.\w])[A-Z]\w+", row[1])
    return found
