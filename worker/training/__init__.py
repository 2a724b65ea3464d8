"""The training: data, network, recipes, runs, and the artefact that serving loads."""
