"""Measuring texts: how well a model knows held-out text, and how much its samples are like text.

bits        how many bits a character of held-out text takes: bits
words       what is counted in texts: words, their entropy, distinct n-grams, repetition
judges      outside readers of a text, and their perplexity: Judge, Trigrams, Reader
figures     the measures of a set of texts, by name: MEASURES, Looked
beside      samples, and as much held-out text, as it is and with its words shuffled: Beside
evaluate    all of them at once, as `carrara evaluate` has it; told, how they are shown
noise       a study of one model, sampled at many temperatures; run, what samples and measures it; page, its page
edits       how wrong a text is where the right one is known: errors
"""
