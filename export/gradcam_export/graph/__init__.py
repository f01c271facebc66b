"""From a Keras model to one folded graph that predicts and explains."""
