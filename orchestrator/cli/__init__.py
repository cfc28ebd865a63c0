"""The command line. Starts workers, Flower and the double as processes, imports none.

One module per command, imported when its command runs, so that `--help` is quick.
"""
