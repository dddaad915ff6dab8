"""What a trained network does inside: branches ablated, gates, gradients, states, variance and softmax."""
