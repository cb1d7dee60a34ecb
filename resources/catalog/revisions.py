"""Contracts as they were at a revision of the git repository that their folder lies in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from backbone.contracts import Contract
from backbone.errors import ConfigurationError
from resources.catalog.contracts import SUFFIX, parse_contract, unique_contracts

_GIT_S = 30
_OTHERWISE = "Compare with a folder that holds the contracts as they were: --against DIR."


def contracts_at(folder: Path, revision: str) -> dict[str, Contract]:
    """Every contract a folder held at a revision, by its file's name.

    Raises:
        ConfigurationError: there is no git, no repository, or no such revision in it, or it leaves the folder out;
            says what to do instead.
        ContractError: a contract of that revision does not hold today's rules; names revision and file.
    """
    if shutil.which("git") is None:
        raise ConfigurationError("There is no git on this machine.", next_step=_OTHERWISE)
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        raise ConfigurationError(
            f"{folder} lies in no git repository, so it has no revision {revision}.",
            next_step=f"Keep it in one: git init {folder}, and commit every change. {_OTHERWISE}",
        )
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise ConfigurationError(
            f"The repository {top} of {folder} has no revision {revision!r}.",
            next_step=f"Name a commit, branch or tag of it. {_OTHERWISE}",
        )
    if _git(folder, "check-ignore", "--quiet", ".") is not None:
        raise ConfigurationError(
            f"The repository {top} ignores {folder}, so it keeps no revisions of it.",
            next_step=f"Keep it in a repository of its own: git init {folder}. {_OTHERWISE}",
        )
    names = (_git(folder, "ls-tree", "-z", "--name-only", commit, "./") or "").split("\0")
    found = {}
    for name in sorted(n for n in names if n.endswith(SUFFIX)):
        text = _git(folder, "show", f"{commit}:./{name}")
        found[name] = parse_contract(text or "", f"{folder / name} at {revision}")
    return unique_contracts(found)


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it refuses."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_GIT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(f"git did not answer within {_GIT_S} s.", next_step=_OTHERWISE) from error
    # Only what it is asked to name is one line; a file's text is taken as it is.
    text = done.stdout.decode("utf-8", errors="surrogateescape")
    return None if done.returncode else text if arguments[0] == "show" else text.rstrip("\n")
