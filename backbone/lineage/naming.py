"""What data sets are called: the naming specification of OpenLineage (https://openlineage.io/docs/spec/naming).

A data set is named by where its bytes lie, so that everybody who reads the same bytes calls them the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

_WINDOW = re.compile(r"^(\d{4}-\d\d-\d\d)\|(.+)$")


def store_name(root: str, path: str) -> tuple[str, str]:
    """(namespace, name) of a file or folder in a store.

    Args:
        root: of the store: a local path, or a URL such as `s3://bucket/plants`.
        path: below the root, with forward slashes.

    A local file is `file` and its absolute path; an object is its bucket and its key.
    """
    parts = urlsplit(root)
    if not parts.scheme or parts.scheme == "file":
        return "file", str(PurePosixPath(parts.path or root) / path)
    prefix = parts.path.strip("/")
    return f"{parts.scheme}://{parts.netloc}", f"{prefix}/{path}" if prefix else path


def mqtt_name(broker: str, topic_filter: str) -> tuple[str, str]:
    """(namespace, name) of what is published under a topic filter: `mqtt://broker:port` and the filter.

    Args:
        broker: `host`, `host:port` or a URL; 1883 is the port where none is given, 8883 with TLS.
    """
    parts = urlsplit(broker if "://" in broker else f"mqtt://{broker}")
    secure = parts.scheme in ("mqtts", "ssl", "tls")
    return f"mqtt://{parts.hostname}:{parts.port or (8883 if secure else 1883)}", topic_filter


def dimensions(partition: str) -> dict[str, str]:
    """What a partition's key says, by column: `2025-01-01|north` is the day and the site, anything else a site."""
    window = _WINDOW.match(partition)
    return {"site": window[2], "date": window[1]} if window else {"site": partition}


def source_name(kind: str, settings: Mapping[str, Any], fleet: str, folder: str) -> tuple[str, str]:
    """(namespace, name) of where a fleet's readings come from.

    Args:
        kind: of the source: a plug-in's name.
        settings: its own: `broker` and `topic` of one that subscribes, `directory` of one that reads a folder.
        fleet: `site/class`, the name of what has none, such as a simulation.
        folder: where people put files for it.
    """
    if "broker" in settings:
        return mqtt_name(str(settings["broker"]), str(settings.get("topic", "#")))
    if kind == "files":
        return "file", str(settings.get("directory", folder))
    for name in ("directory", "path", "data"):
        if name in settings:
            return "file", str(settings[name])
    return f"{kind}://", fleet
