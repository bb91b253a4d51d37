"""`reasonray ablate`: what each part of the data brings, and what the multimodal model (Figure 15).

`variants` says what is compared, `running` trains and measures it, `report` and `charts` show it.
"""
