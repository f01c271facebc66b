"""What the live model of a published version answers, asked rightly and wrongly: to verify with, and to diagnose."""
