"""A study of editors by people: which of several edits of one picture is the best.

`creation` lays a study out in a folder, `service` asks the workers, `report` counts their picks.
All of them meet in `store`, the folder's database.
"""
