"""Color and marker of each method in figures, by the name of the method alone.

Shipped names have an entry, so that rows of one shipped table differ in both. The hash of any other
name selects its color and marker, whatever else is registered. Entries are added and never changed,
so that a method looks the same in figures of all versions.
"""

import hashlib

PLACES: dict[str, tuple[int, int]] = {
    "chen": (1, 1),
    "defeat": (5, 5),
    "defeat_all": (1, 0),
    "defeat_backbone": (2, 1),
    "defeat_background": (4, 1),
    "defeat_cls": (0, 2),
    "defeat_cls_all": (2, 3),
    "defeat_full": (8, 9),
    "defeat_head": (5, 1),
    "defeat_head_all": (6, 2),
    "defeat_head_negative": (7, 3),
    "defeat_head_positive": (8, 0),
    "defeat_object": (9, 4),
    "defeat_up": (5, 2),
    "defeat_voc": (8, 1),
    "dicod": (11, 11),
    "dicod+fkd": (4, 0),
    "dicod_cls": (10, 2),
    "dicod_l0": (11, 2),
    "dicod_l0_l1": (0, 4),
    "dicod_loc": (3, 0),
    "dicod_loc_kd": (6, 1),
    "fgfi": (3, 3),
    "fgfi_defeat": (10, 4),
    "fgfi_ld": (7, 0),
    "fitnets": (2, 2),
    "fitnets_defeat": (2, 5),
    "fitnets_ld": (9, 2),
    "fitnets_negative": (1, 3),
    "fitnets_object": (3, 1),
    "fitnets_object_ld": (10, 3),
    "fitnets_positive": (4, 5),
    "fitnets_positive_ld": (11, 4),
    "fitnets_up": (4, 3),
    "fkd": (6, 6),
    "fkd_am": (5, 0),
    "fkd_at": (7, 1),
    "fkd_attention": (8, 2),
    "fkd_mmrazor": (6, 3),
    "fkd_nonlocal": (9, 3),
    "fkd_paper": (11, 0),
    "gid": (7, 7),
    "gid_feature": (0, 1),
    "gid_feature_response": (6, 0),
    "gid_negative": (10, 0),
    "gid_positive": (11, 1),
    "gid_relation": (1, 2),
    "gid_response": (2, 4),
    "gid_rewrite": (7, 4),
    "gid_semi_positive": (0, 3),
    "gid_truth": (3, 2),
    "mimic": (10, 10),
    "mimic_up": (6, 4),
    "pfi": (9, 9),
    "pfi_linear": (1, 4),
    "pfi_literal": (9, 8),
    "pfi_mmrazor": (2, 0),
    "pfi_mmrazor_norm": (3, 5),
    "rm": (8, 8),
    "rm+pfi": (10, 12),
    "rm_class": (7, 2),
    "rm_loc": (9, 0),
    "rm_logit": (5, 8),
    "rm_score": (7, 8),
    "soft_labels": (0, 0),
    "soft_labels_ld": (0, 5),
    "tadf": (4, 4),
    "tadf_neck": (4, 2),
}
"""Number of the color in ``style.COLORS``, and of the marker in ``style.MARKERS``."""


def place(method: str, colors: int, marks: int) -> tuple[int, int]:
    """Return the numbers of a method's color and marker, each below the given count.

    ``method`` is its name in studies, such as ``rm+pfi``.
    """
    if method in PLACES:
        return PLACES[method]
    number = int.from_bytes(hashlib.sha256(method.encode()).digest()[:8], "big")
    return number % colors, number // colors % marks
