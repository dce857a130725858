"""The report: one HTML file that holds everything it shows and asks for nothing over a network. Needs no torch."""

from __future__ import annotations

from .data import EntryCost, PageData, page_costs
from .render import TEMPLATES, render_page, write_page

__all__ = ["TEMPLATES", "EntryCost", "PageData", "page_costs", "render_page", "write_page"]
