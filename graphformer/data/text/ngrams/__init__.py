"""N-grams of texts as nodes: lexicons by mutual information, and labelled texts with n-grams."""
