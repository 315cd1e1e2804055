"""The peers as contestants: their own networks, losses, optimisers, averages and samplers, behind one handle.

rival    an object of `rival.Rival`: train_step, sample, evaluation, state; made by `contestants.CONTESTANTS`
mode     what it computes in: float32, bf16 by autocast, channels_last, both
"""
