"""Tables, plots, verdicts on the paper's claims, and one page with all of them."""
