"""An optimizer with a state of its own."""

from pydantic import Field
from torch import Tensor

from gt.options import Options
from gt.training.optimizers.base import Optimizer


class Adagrad(Optimizer):
    """A step over the root of the sum of all squared gradients so far.

    Formula: s = s + g^2, w = w - lr g / (sqrt(s) + eps)
    Source: Duchi, Hazan and Singer, JMLR 12, 2011
    """

    name = "adagrad"

    class Config(Options):
        epsilon: float = Field(1e-8, gt=0, description="added to the root")

    def build(self) -> None:
        self.state["squares"] = self.flat.zeros()

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        squares = self.state["squares"].addcmul_(gradient, gradient)
        return rates * gradient / (squares.sqrt() + self.options.epsilon)
