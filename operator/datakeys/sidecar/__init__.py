"""The native sidecar in the consumer's pod: asks for this pod's data keys and delivers them, in memory only.

Zone: plaintext of its own pod. Standard library and the contract only; sees no key material, no other pod.
Every pod pays for this process, so the resident part imports no ``typing``, ``json``, ``re`` or ``ssl``: each
costs more memory than all the code here. What needs them lives in a child process that ends after the answer.
"""
