"""How the zoo is made: one file for each model gives its course, `zoo` and `loop` train it.

`scenes`, `vocabulary`, `vision` and `stable_diffusion` are what several models share; `questions`
and `conversations` are what the language models are taught.
"""
