"""What groundthink relies on in every component, and what we know of our own."""

import torch
from mylab.fusions import Product

from gt.conformance import *  # noqa: F403  the tests of all components of this project


def test_a_product_of_share_one_half_is_as_the_formula_says() -> None:
    product = Product(1, start=0.5)
    torch.nn.init.constant_(product.share, 0.5)
    r, m = torch.tensor([[[3.0]]]), torch.tensor([[[5.0]]])
    assert product(r, m, r).y.item() == (3 + 5) / 2 + 0.5 * 3 * 5
