"""Import of torch and mmdet for the commands that build networks."""


def load_networks(threads: int | None) -> None:
    """Import torch and mmdet with all registered classes, and set the CPU threads of torch."""
    import gc

    from kd.common import yapf_cache
    from kd.common.files import uncollected

    with uncollected():
        yapf_cache.load()
        import kd.runtime  # noqa: F401
    # The modules stay in memory; without this, each data set of mmengine scans them for garbage.
    gc.freeze()
    if threads:
        import torch

        torch.set_num_threads(threads)
