"""The wire formats that the upstream speaks, one file per vendor."""
