"""A model's card (Mitchell et al., FAT* 2019): what it is for, how good it is, and when not to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import maintenance.models
from backbone import plugins


def model_card(manifest: Mapping[str, Any]) -> str:
    """Markdown, from nothing but the manifest."""
    unit, cap = manifest["rul"]["unit"], manifest["rul"]["cap"]
    metrics, policy = manifest["metrics"], manifest["policy"]
    members = [plugins.load(maintenance.models, name) for name in manifest["model"]]
    limits = [f"- {spec.name} cannot {limit}." for spec in members for limit in spec.cannot]
    candidates = [
        f"| {' + '.join(c['model'])} | {c['rmse']:.2f} | {c['nasa_score']:.0f} |" for c in manifest["candidates"]
    ]
    fixed_age = "no age" if policy["fixed_age"] is None else f"{policy['fixed_age']:.0f} {unit}s"
    return "\n".join(
        [
            f"# Remaining useful life of a {manifest['equipment_class']}",
            "",
            f"Predicts how many {unit}s a machine has left, from 0 to {cap:g}; {cap:g} means at least that many.",
            "It is for planning maintenance. It is no safety function.",
            "",
            "## What it is",
            "",
            *(f"- **{spec.name}**: {spec.summary}" for spec in members),
            f"- {len(manifest['features'])} features of contract {manifest['contract']['name']} "
            f"{manifest['contract']['version']}, baseline `{manifest['baseline']}`",
            f"- learnt from {metrics['failures']} lives of {metrics['machines']} machines that ended in failure "
            f"({metrics['rows']} readings)",
            "",
            "## How good it is, on machines it had not learnt from",
            "",
            f"| model | RMSE, {unit}s | NASA score |",
            "|---|---|---|",
            *candidates,
            "",
            f"- intervals meant to hold {manifest['intervals']['coverage']:.0%} of true values held "
            f"{metrics['coverage']:.1%}; they are {metrics['width']:.1f} {unit}s wide on average",
            f"- replacing at {policy['act_below']:.1f} predicted {unit}s or less costs {metrics['cost_ratio']:.2f} of "
            f"replacing at the best fixed age ({fixed_age}), with {policy['failures']} failures",
            f"- its ONNX form differs by at most {metrics['onnx_max_abs_diff']:.2g} {unit}s",
            "",
            "## When not to trust it",
            "",
            *limits,
            "- It knows the ways to fail that are in its training set, and no others.",
            "- It abstains where a sensor it needs is silent or far outside what it learnt from; rules answer then.",
            "",
        ]
    )
