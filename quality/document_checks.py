"""Documents hold their contracts: an asset check of each, in the run that makes it."""

from collections.abc import Mapping

import dagster as dg

from backbone.contracts import Contract
from quality.judged import DOCUMENTS
from resources.bindings.plants import Plants, failures

HOLDS_CONTRACT = "holds_contract"


def document_checks(
    equipment_class: str, contracts: Mapping[str, Contract], plants_of: dg.PartitionsDefinition
) -> list[dg.AssetChecksDefinition]:
    """One check a document.

    Args:
        contracts: asset → its contract.
        plants_of: the partitions of the assets, sites.
    """
    return [_document_check(equipment_class, name, contracts[name], plants_of) for name in DOCUMENTS]


def _document_check(
    equipment_class: str, product: str, contract: Contract, plants_of: dg.PartitionsDefinition
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey([equipment_class, product]),
        name=HOLDS_CONTRACT,
        description=f"The newest document holds the contract {contract.name} {contract.version}, figures in range.",
        partitions_def=plants_of,
    )
    def holds_contract(context: dg.AssetCheckExecutionContext, plants: Plants) -> dg.AssetCheckResult:
        from quality.documents import held, newest

        with failures():
            site = context.partition_key
            document = newest(plants.plant(site), equipment_class, product)
        if document is None:
            return dg.AssetCheckResult(
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                description="There is none yet.",
                metadata={"site": site, "observed": "none", "expected": "a document"},
            )
        found = held(contract, document)
        return dg.AssetCheckResult(
            passed=not found.reasons,
            severity=dg.AssetCheckSeverity.ERROR if found.severity == "error" else dg.AssetCheckSeverity.WARN,
            description="; ".join(found.reasons[:10]) or None,
            metadata={
                "site": site,
                **found.numbers,
                "observed": "; ".join(found.reasons[:20]) or "all hold",
                "expected": f"{contract.name} {contract.version}",
                "dimension": "conformity",
            },
        )

    return holds_contract
