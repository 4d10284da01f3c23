"""The report room: tables, plots, verdicts on the paper's claims, and one page with all of them."""
