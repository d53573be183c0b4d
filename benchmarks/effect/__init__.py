"""Does it help? Methods side by side on the same networks, pictures and seeds: `python -m effect --help`."""
