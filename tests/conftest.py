"""What holds for all tests."""

from hypothesis import settings

# A slow moment of the machine is no fault of the code: no test asserts seconds, those of hypothesis included.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
