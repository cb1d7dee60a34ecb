"""Where the gateway's readings come from: one module with one `SPEC` each, see `gateway.ports`."""
