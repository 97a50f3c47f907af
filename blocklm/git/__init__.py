"""Reads git repositories as frozen values, at git's speed, without running any program that a repository names.

The only package that imports PyDriller or GitPython, and the only one that runs git.

    (repository,) = open_repositories(recipe.mining)
    for commit in read_commits(repository, list_commits(repository)):
        commit.message, [file.path for file in commit.files]
"""
