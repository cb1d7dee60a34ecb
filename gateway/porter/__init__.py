"""The gateway's second process: lands what the spool holds, and fetches releases and checkpoints for the hot one."""
