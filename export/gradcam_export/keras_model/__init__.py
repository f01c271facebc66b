"""The trained Keras classifier: how it is loaded and how its layers are listened to."""
