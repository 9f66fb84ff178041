"""Command ``bundle``: write a study to one file, or verify such a file."""

import sys
from argparse import Namespace

from kd.cli.plan import plan_of, scale_of
from kd.cli.project import enter_project
from kd.common.errors import UserError


def bundle_study(options: Namespace) -> int:
    """Write the bundle of a study, or verify one; return 1 if a number differs."""
    if options.verify:
        return _verify(options)
    if options.study is None:
        raise UserError("name a study, or a bundle with --verify; see `kd bundle --help`")
    enter_project()
    from analysis.bundle.write import BundleOptions, write_bundle

    scale = scale_of(options)
    settings = BundleOptions(options.to, options.weights, options.license)
    written = write_bundle(plan_of(options), options.study, scale, settings)
    print(written.path)
    open_runs = written.planned - written.finished - written.failed
    print(
        f"{written.files} files, {written.path.stat().st_size / 1e6:.1f} MB; {written.finished} "
        f"finished runs, {written.failed} failed, {open_runs} without results",
        file=sys.stderr,
    )
    return 0


def _verify(options: Namespace) -> int:
    from analysis.bundle.verify import describe, verify_bundle

    if options.study or options.to or options.weights or options.license:
        raise UserError("--verify reads a bundle; name no study, and no other option with it")
    if not options.verify.is_file():
        raise UserError(f"{options.verify}: no such file")
    result = verify_bundle(options.verify)
    print(describe(options.verify, result))
    return 1 if result.differences else 0
