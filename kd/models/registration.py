"""Registration of the classes that a composed configuration names by ``type``."""

from typing import Any

from mmengine.utils import import_modules_from_strings


def register(config: dict[str, Any]) -> None:
    """Import the modules under ``custom_imports``, which register their classes with mmengine.

    Call it before anything of the configuration is built. The modules lie above the callers, so
    callers cannot import them by name.
    """
    import_modules_from_strings(**config["custom_imports"])
