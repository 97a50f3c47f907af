"""Tasks that developers give a model, made of unseen commits; each is a function from a commit's hunks to items."""
