"""Networks: what is built on mmdet or changed in it, its operators, optimizers and weights."""
