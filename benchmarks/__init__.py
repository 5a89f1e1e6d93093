"""Every figure of the README and the docs: `python -m benchmarks`, or one part, `python -m benchmarks.exact`."""
