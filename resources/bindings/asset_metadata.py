"""What the definitions say of an asset beyond Dagster's own words: names of its metadata and of its tags."""

COLUMN_LINEAGE, CONTRACT = "hybrid/column_lineage", "contract"
"""Metadata: column → [asset, column, kind, how] of each source; identifier and version."""
CLASSIFICATION, WORKLOAD = "hybrid/classification", "hybrid/workload"
"""Tags: the highest of its columns; what the site's `[workloads]` call the work of this asset."""
