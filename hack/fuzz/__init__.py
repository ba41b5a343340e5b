"""Coverage-guided fuzzing: ``python -m fuzz`` runs the targets, their corpus is ``tests/fuzz_corpus``.

Zone: tools. ``targets`` needs no fuzzer, so that a unit test can replay the corpus; only ``worker`` does.
"""
