"""Turn a Keras classifier into a SavedModel that explains its predictions."""
