"""The figures of docs/guarantees.md, measured: `make figures`."""
