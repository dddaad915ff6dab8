"""What a trained network does inside: branches ablated, gates, gradients, states, variance, softmax, and the record's tests."""
