"""Parts of the page that inspects vessels."""
