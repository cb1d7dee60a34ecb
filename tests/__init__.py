"""A package, and found before any other of this name: `gmqtt` installs one."""
