"""Why something was refused, kept apart or flagged: one word each, as it stands in counters, answers and dead letters.

What else a contract finds has its own words: `missing:<column>`, `wrong_type:<column>`, `out_of_range:<column>`,
`not_allowed:<column>`, as in `backbone.row_checks`.
"""

from __future__ import annotations

# Refused to the sender: nothing was kept, and the sender knows.
NO_CERTIFICATE, UNKNOWN_CERTIFICATE = "no_certificate", "unknown_certificate"
EXPIRED_CERTIFICATE, REVOKED_CERTIFICATE = "expired_certificate", "revoked_certificate"
UNCHECKED_CERTIFICATE = "unchecked_certificate"
"""Whether it is revoked cannot be told: the list does not say of its authority, or is out of date."""
IDENTITY_MISMATCH = "identity_mismatch"
"""The sender is known, but not as what it says it speaks for."""
BAD_SIGNATURE, OLD_TIMESTAMP, REPLAYED_NONCE = "bad_signature", "old_timestamp", "replayed_nonce"
TOO_LARGE, UNKNOWN_CONTENT_TYPE, MALFORMED_REQUEST = "too_large", "unknown_content_type", "malformed_request"
RATE_EXCEEDED, TOO_SLOW = "rate_exceeded", "too_slow"
SPOOL_FULL, SPOOL_FAILED, BUSY, DRAINING = "spool_full", "spool_failed", "busy", "draining"

# A file put aside.
BAD_NAME, SYMBOLIC_LINK, STILL_WRITTEN = "bad_name", "symbolic_link", "still_written"
COMPRESSION_BOMB, TOO_MANY_ROWS, NESTED_ARCHIVE = "compression_bomb", "too_many_rows", "nested_archive"
UNREADABLE_FILE, EXECUTABLE_FORMAT = "unreadable_file", "executable_format"

# Dead letter: kept with the reason, acknowledged.
INVALID_UTF8, INVALID_JSON, NOT_FINITE = "invalid_utf8", "invalid_json", "not_finite"
DUPLICATE_KEY, TOO_DEEP, TOO_LONG_NUMBER = "duplicate_key", "too_deep", "too_long_number"
NOT_A_READING = "not_a_reading"
"""Well-formed, but not an object with `ts`, `seq` and `values` of the types they have."""
UNKNOWN_UNIT, UNKNOWN_CONTRACT_VERSION = "unknown_unit", "unknown_contract_version"
UNREGISTERED_EQUIPMENT = "unregistered_equipment"
TOO_MANY_MACHINES, TOO_MANY_SENDERS = "too_many_machines", "too_many_senders"
"""A reading of yet another machine, or from yet another sender, than the gateway has room for."""
CONFLICTING_DUPLICATE = "conflicting_duplicate"
"""The same id as an earlier reading, another content."""
TOO_OLD_TO_COMPARE = "too_old_to_compare"
"""An id of so long ago that its content is not remembered."""
INVALID_PROTOBUF, UNKNOWN_ALIAS, NO_BIRTH = "invalid_protobuf", "unknown_alias", "no_birth"

# Accepted, and flagged.
AHEAD_OF_CLOCK, LATE, STUCK, NEW_COLUMN = "ahead_of_clock", "late", "stuck", "new_column"
IS_HISTORICAL = "is_historical"
