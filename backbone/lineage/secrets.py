"""Keeps passwords, tokens and keys out of what is told to the world."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

REDACTED = "***"
_LEAST_LENGTH = 5
"""Values shorter than this are not looked for in texts: they would be found in anything."""

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?$|pwd$|secret|token|credential|api_?key|access_?key|private_?key|signing_?key|"
    r"^auth$|authorization|cookie|(^|_)sas(_|$)|connection_?string|dsn$|client_?key|(^|_)key$",
    re.IGNORECASE,
)
_SECRETS = re.compile(
    r"""(?P<url>\b[a-z][a-z0-9+.-]*://)(?P<a>[^\s/'"]+)(?=@)"""  # a user's name may be a token, too
    r"""|(?P<pair>["']?\b[\w.-]*(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"""
    r"""|accountkey|sharedaccesskey|credentials?|sig)["']?\s*[=:]\s*["']?)(?P<b>[^\s"',;&}]+)"""
    r"""|(?P<header>\b(?:bearer|basic)\s+)(?P<c>[A-Za-z0-9+/_.~=-]{8,})"""
    r"""|(?P<d>\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|\bgh[pousr]_[A-Za-z0-9]{20,}"""
    r"""|\bxox[abprs]-[\w-]{10,})"""
    r"""|(?P<e>-----BEGIN[A-Z ]*PRIVATE KEY-----.*?(?:-----END[A-Z ]*PRIVATE KEY-----|\Z))""",
    re.IGNORECASE | re.DOTALL,
)


def is_secret_name(name: str) -> bool:
    """Whether what goes by this name (a variable, a setting) is nobody's business."""
    return bool(_SECRET_NAME.search(name.replace("-", "_")))


class Scrubber:
    """Takes secrets out of texts: what looks like one, and those that are known by value.

    Args:
        known: values that are secret, such as those of variables with a secret's name.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        values = sorted({v for v in known if len(v) >= _LEAST_LENGTH}, key=len, reverse=True)
        self._known = re.compile("|".join(re.escape(v) for v in values)) if values else None

    @classmethod
    def of(cls, *settings: Mapping[str, Any]) -> Scrubber:
        """One that knows the values of these settings, or variables, whose names are a secret's; nested ones too."""
        return cls(value for one in settings for value in _secret_values(one))

    def text(self, text: str) -> str:
        """The text without its secrets."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return _SECRETS.sub(_without, text)

    def value(self, value: Any, name: str = "") -> Any:
        """A JSON value without its secrets.

        Args:
            name: what it goes by; where that is a secret's, nothing of the value is left.
        """
        if name and is_secret_name(name) and value not in (None, "", True, False):
            return REDACTED
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(inner, str(key)) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value


def redacted(variables: Mapping[str, str], scrub: Scrubber) -> dict[str, str]:
    """Variables without the values of those that are a secret by name, and without secrets in the others."""
    return {n: REDACTED if is_secret_name(n) else scrub.text(value) for n, value in variables.items()}


def _without(match: re.Match[str]) -> str:
    before = match["url"] or match["pair"] or match["header"] or ""
    return before + REDACTED


def _secret_values(settings: Mapping[str, Any]) -> Iterable[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _secret_values(value)
        elif isinstance(value, list | tuple):
            yield from (v for one in value if isinstance(one, Mapping) for v in _secret_values(one))
        elif isinstance(value, str) and is_secret_name(str(name)):
            yield value
