"""The page that people watch: HTML made here and a little script."""
