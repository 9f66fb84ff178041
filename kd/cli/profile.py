"""Command that times the training step of a run: ``profile``."""

from argparse import Namespace

from kd.cli.networks import load_networks


def profile_run(options: Namespace) -> None:
    """Print and draw the time and memory of a training step by part."""
    load_networks(options.threads)
    from analysis.figures.profile.plot import write_profile
    from kd.profiling.profile import Extent, profile
    from kd.profiling.table import describe

    extent = Extent(options.steps, options.batch, options.workers)
    measurements = profile(options.run, extent)
    print(describe(measurements))
    for path in write_profile(measurements, options.to or options.run / "profile"):
        print(path)
