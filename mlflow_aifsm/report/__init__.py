"""Evidence into documents: one block tree, one writer a format; draws values, fetches nothing."""
