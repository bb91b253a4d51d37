"""`index.html` of an evaluation: one page, complete in itself, for a person who wants to see it.

`choice` says which items are shown and by what they can be sorted, `gallery` reads their pictures,
`facets` and `charts` have the figures beside the tables, `writing` fills the template.
"""
