"""The whole line as its user sees it: real processes, the command line, nothing else."""
