"""Where the configuration of the OpenLineage client lies, and whether it was found sound."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from importlib.metadata import version as package_version
from pathlib import Path

from backbone.errors import ConfigurationError

DISABLED, URL, CONFIG, PREFIX = "OPENLINEAGE_DISABLED", "OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__"
FILE_NAME = "openlineage.yml"


def check_destination(home: Path) -> None:
    """Raise as `destination` does; what was found sound once is not looked at again, which saves the client's import.

    Every process that loads the definitions asks, each run's among them.
    """
    if switched_off():
        return
    path = config_file()
    settings = sorted((k, v) for k, v in os.environ.items() if k.startswith("OPENLINEAGE"))
    if path is None and not any(k == URL or k.startswith(PREFIX) for k, _ in settings):
        return
    text = path.read_bytes() if path else b""
    digest = hashlib.sha256(repr((str(path), text, settings, package_version("openlineage-python"))).encode())
    mark = home / "lineage" / f".sound-{digest.hexdigest()[:32]}"
    if mark.exists():
        return
    from resources.lineage.transports import destination

    destination(home)
    if home.is_dir():  # only a convenience: a home that is not there, or not ours to write, keeps no mark
        with suppress(OSError):
            mark.parent.mkdir(exist_ok=True)
            mark.touch()


def switched_off() -> bool:
    """Whether `OPENLINEAGE_DISABLED=true`."""
    return os.environ.get(DISABLED, "").strip().lower() == "true"


def config_file() -> Path | None:
    """The file that the client would read.

    Raises:
        ConfigurationError: the one that is named is not there; the client would go on without it.
    """
    if named := os.environ.get(CONFIG):
        path = Path(named)
        if not path.is_file() or not os.access(path, os.R_OK):
            raise ConfigurationError(
                f"{CONFIG} names {named}, which is not a file that can be read.", next_step="Correct or unset it."
            )
        return path
    for path in (Path.cwd() / FILE_NAME, Path("~/.openlineage").expanduser() / FILE_NAME):
        if path.is_file() and os.access(path, os.R_OK):
            return path
    return None
