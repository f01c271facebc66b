"""Reads back what a report's page holds."""

import json
import re


def page_data(path) -> dict:
    """Return the page's data, from the only place of the page that holds it."""
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(text)
