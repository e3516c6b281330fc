"""The graphs: UI-format templates here, API-format graphs and the code that fills them."""
