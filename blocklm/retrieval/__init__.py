"""Search over a history or its files: BM25, embeddings, and the fusion of both rankings.

index = change_index(changes, recipe.retrieval, Path(recipe.mining.corpus_dir))
for hit in index.search("where is a broken pipe handled", 10):
    hit.commit, hit.path, hit.subject
"""
