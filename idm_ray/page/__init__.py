"""One self-contained HTML page of a run, a search or a comparison, from the files in its folder.

What a page says is put together as plain values (`content`), which one template shows; only
`rendering` knows HTML. Everything that comes from files may come from strangers: values are checked
as they are read, and the template escapes them.
"""
