"""``kubectl kms explain``: why has a pod its data keys, or why not.

Zone: names, states and log lines; never the content of a Secret. Facts are fetched first, everything else is
pure.
"""
