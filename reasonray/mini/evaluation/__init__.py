"""How good the zoo is: one file for each group of figures, `zoo.evaluate` runs them."""
