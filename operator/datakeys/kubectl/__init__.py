"""``kubectl kms``: the plugin for people.

Zone: runs on a person's machine with that person's kubeconfig and rights; sees names, states and logs, and
never the content of a Secret.
"""
