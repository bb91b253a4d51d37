"""How good the zoo is: one file for each group of figures, `reasonray.mini.evaluate` runs them."""
