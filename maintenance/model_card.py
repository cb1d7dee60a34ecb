"""A model's card (Mitchell et al., FAT* 2019): what it is for, how good it is, and when not to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import maintenance.models
import maintenance.questions
from backbone import plugins
from maintenance.equipment_class import REMAINING_LIFE


def model_card(manifest: Mapping[str, Any]) -> str:
    """Markdown, from nothing but the manifest."""
    asked = plugins.load(maintenance.questions, manifest.get("question", REMAINING_LIFE)).card(manifest)
    members = [plugins.load(maintenance.models, name) for name in dict.fromkeys(manifest["model"])]
    limits = [f"- {spec.name} cannot {limit}." for spec in members for limit in spec.cannot]
    return "\n".join(
        [
            f"# {asked.title}",
            "",
            *asked.purpose,
            "It is for planning maintenance. It is no safety function.",
            "",
            "## What it is",
            "",
            *(f"- **{spec.name}**: {spec.summary}" for spec in members),
            f"- {len(manifest['features'])} features of contract {manifest['contract']['name']} "
            f"{manifest['contract']['version']}, baseline `{manifest['baseline']}`",
            f"- {asked.learnt_from}",
            "",
            "## How good it is, on machines it had not learnt from",
            "",
            *asked.table,
            "",
            *asked.figures,
            "",
            "## When not to trust it",
            "",
            *limits,
            *asked.limits,
            "",
        ]
    )
